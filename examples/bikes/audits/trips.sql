/* Blocking, as audits are unless they say otherwise: what it finds never reaches the models downstream. */
AUDIT (
  name ends_before_it_starts
);

SELECT
  *
FROM @this_model
WHERE
  ended_at <= started_at;
