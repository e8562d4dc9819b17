/* Trips and minutes of each district and day, beside the weather of that day. */
MODEL (
  name bikes.daily_usage,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column day
  ),
  cron '@daily',
  grain (district, day),
  audits (
    number_of_rows(threshold := 1)
  )
);

SELECT
  t.started_at::DATE AS day,
  s.district::TEXT AS district,
  COUNT(*)::INT AS trips,
  SUM(EXTRACT(EPOCH FROM t.ended_at - t.started_at) / 60)::INT AS minutes,
  MAX(w.temperature)::DOUBLE PRECISION AS temperature,
  BOOL_OR(w.is_rainy)::BOOLEAN AS is_rainy
FROM bikes.trips AS t
JOIN bikes.stations AS s
  ON t.station_id = s.station_id
LEFT JOIN bikes.weather AS w
  ON t.started_at::DATE = w.day
WHERE
  t.started_at BETWEEN @start_ts AND @end_ts
GROUP BY
  t.started_at::DATE,
  s.district;
