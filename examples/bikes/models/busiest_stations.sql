/* Stations by departures. A view: always as fresh as the trips below it. */
MODEL (
  name bikes.busiest_stations,
  kind VIEW,
  cron '@daily',
  grain station_id
);

SELECT
  s.station_id::INT AS station_id,
  s.name::TEXT AS name,
  COUNT(*)::INT AS departures
FROM bikes.trips AS t
JOIN bikes.stations AS s
  ON t.station_id = s.station_id
GROUP BY
  s.station_id,
  s.name;
