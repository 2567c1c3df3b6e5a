-- name: json_columns
-- What a JSON file's values are (json_objects: one a row) and the keys of its objects, by their first
-- appearance; for a value that is no object the key is null.
SELECT kind, key
FROM (SELECT kind, unnest(keys) AS key, generate_subscripts(keys, 1) AS place, row
      FROM (SELECT json_type(json) AS kind,
                   CASE json_type(json) WHEN 'OBJECT' THEN json_keys(json) ELSE [NULL] END AS keys,
                   min(row) AS row
            FROM (SELECT json, row_number() OVER () AS row FROM json_objects)
            WHERE json IS NOT NULL
            GROUP BY ALL))
GROUP BY kind, key
ORDER BY min(row), min(place);
