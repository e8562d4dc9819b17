/* Not blocking: a broken sensor is worth a warning, the app goes on. */
AUDIT (
  name more_bikes_than_docks,
  blocking false
);

SELECT
  *
FROM @this_model
WHERE
  bikes > docks;
