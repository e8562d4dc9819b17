/* One row a trip, loaded by the hour once the trips of the hour are in. Made up, but the same for everybody. */
MODEL (
  name bikes.trips,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column started_at
  ),
  cron '@hourly',
  grain trip_id,
  signals (
    settled(minutes := 2)
  ),
  audits (
    ends_before_it_starts,
    not_null(columns := (trip_id, station_id, started_at))
  )
);

WITH departures AS (
  SELECT
    s.station_id,
    t.started_at,
    ABS(HASHTEXT('trip' || s.station_id || TO_CHAR(t.started_at, 'YYYY-MM-DD HH24:MI'))) AS dice
  FROM bikes.stations AS s
  CROSS JOIN GENERATE_SERIES(@start_ts::TIMESTAMP, @end_ts::TIMESTAMP, INTERVAL '10 minutes') AS t(started_at)
)
SELECT
  (station_id || '-' || TO_CHAR(started_at, 'YYYYMMDDHH24MI'))::TEXT AS trip_id,
  station_id::INT AS station_id,
  (1 + MOD(dice, 10))::INT AS to_station_id,
  started_at::TIMESTAMP AS started_at,
  (started_at + (4 + MOD(dice, 50)) * INTERVAL '1 minute')::TIMESTAMP AS ended_at
FROM departures
WHERE
  started_at BETWEEN @start_ts AND @end_ts
  /* Nobody rides every ten minutes from everywhere. */
  AND MOD(dice, 3) > 0;
