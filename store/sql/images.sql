-- Images of records. Statements by name, with named parameters; 'incoming': rows that the caller registers.

-- name: insert_images
INSERT INTO images SELECT record, place, url, detail, sha256, path, bytes FROM incoming ORDER BY record, place;

-- name: image_paths
SELECT sha256, min(path) FROM images WHERE sha256 IN (SELECT unnest($digests)) GROUP BY sha256;

-- name: rows_of_source
SELECT source_row, record FROM records WHERE source = $source;

-- name: images_of_source
-- The rows of a source, with what their images are made of. Not joined with the records: DuckDB may keep the side with
-- the bytes in memory.
SELECT row_number() OVER () - 1, images, image_blobs FROM source_rows;

-- name: refuse_image
-- Pending requests with an image that cannot be read.
INSERT INTO failures
SELECT request_id, 'refused', 'image', $message, false, NULL, current_round(), NULL, (now() AT TIME ZONE 'UTC')
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)
WHERE images > 0 AND contains(messages, $reference);

-- name: refuse_large_lines
-- Pending requests that with their images are larger than a job file may be.
INSERT INTO failures
SELECT request_id, 'refused', 'image',
       'with its images the request has up to ' || line_bytes(params, messages, tools, image_bytes)
       || ' bytes, and a job file at most ' || $max_bytes || ': make its images smaller',
       false, NULL, current_round(), NULL, (now() AT TIME ZONE 'UTC')
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)
WHERE images > 0 AND line_bytes(params, messages, tools, image_bytes) > $max_bytes;
