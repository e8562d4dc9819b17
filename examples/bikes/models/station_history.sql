/* Every state that a station has had, and from when to when. */
MODEL (
  name bikes.station_history,
  kind SCD_TYPE_2_BY_COLUMN (
    unique_key station_id,
    columns [name, district, docks]
  ),
  cron '@daily',
  grain (station_id, valid_from)
);

SELECT
  station_id::INT AS station_id,
  name::TEXT AS name,
  district::TEXT AS district,
  docks::INT AS docks
FROM bikes.stations;
