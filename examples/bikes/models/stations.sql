/* Where bikes are rented and returned. Edit the file and plan again: `station_history` remembers. */
MODEL (
  name bikes.stations,
  kind SEED (
    path '../seeds/stations.csv'
  ),
  columns (
    station_id INT,
    name TEXT,
    district TEXT,
    docks INT
  ),
  grain station_id,
  audits (
    unique_values(columns := (station_id)),
    not_null(columns := (name, district, docks))
  )
);
