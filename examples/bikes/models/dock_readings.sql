/* How many bikes stood at each station, every five minutes. Made up, but the same for everybody. */
MODEL (
  name bikes.dock_readings,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column read_at
  ),
  cron '*/5 * * * *',
  start '1 day ago',
  grain (station_id, read_at),
  audits (
    more_bikes_than_docks
  )
);

SELECT
  s.station_id::INT AS station_id,
  t.read_at::TIMESTAMP AS read_at,
  MOD(ABS(HASHTEXT(s.name || TO_CHAR(t.read_at, 'YYYY-MM-DD HH24:MI'))), s.docks + 1)::INT AS bikes,
  s.docks::INT AS docks
FROM bikes.stations AS s
CROSS JOIN GENERATE_SERIES(@start_ts::TIMESTAMP, @end_ts::TIMESTAMP, INTERVAL '5 minutes') AS t(read_at)
WHERE
  t.read_at BETWEEN @start_ts AND @end_ts;
