/* What the app shows: where there is a bike now. Made again every minute. */
MODEL (
  name bikes.availability,
  kind FULL,
  cron '* * * * *',
  /* SQLMesh's shortest interval is five minutes; one that is not over yet may be computed again. */
  interval_unit 'five_minute',
  allow_partials TRUE,
  /* A table that is made anew needs no past. */
  start '1 hour ago',
  grain station_id
);

WITH latest AS (
  SELECT DISTINCT ON (station_id)
    station_id,
    read_at,
    bikes
  FROM bikes.dock_readings
  ORDER BY
    station_id,
    read_at DESC
)
SELECT
  s.station_id::INT AS station_id,
  s.name::TEXT AS name,
  l.bikes::INT AS bikes,
  (s.docks - l.bikes)::INT AS free_docks,
  l.read_at::TIMESTAMP AS read_at,
  @execution_ts::TIMESTAMP AS shown_at
FROM bikes.stations AS s
JOIN latest AS l
  ON s.station_id = l.station_id;
