-- Every export by its file, from the view export_rows, in sample order. $include_reasoning: the reasoning,
-- a blank line, then the output. A row without an output never stands in a training file.

-- name: distilled
SELECT instruction, input, output, reasoning, finish_reason, model, source_row
FROM export_rows
ORDER BY record, ordinal

-- name: augmented
SELECT instruction, input, output, reasoning, finish_reason, model, source_row,
       original_instruction, ordinal AS variant
FROM export_rows
ORDER BY record, ordinal

-- name: alpaca
SELECT instruction, input,
       CASE WHEN $include_reasoning AND reasoning <> '' THEN reasoning || chr(10) || chr(10) || output
            ELSE output END AS output
FROM export_rows
WHERE output <> ''
ORDER BY record, ordinal

-- name: sharegpt
SELECT [
    {'from': 'human',
     'value': CASE WHEN input = '' THEN '指令: ' || instruction
                   WHEN instruction = '' THEN '输入: ' || input
                   ELSE '指令: ' || instruction || chr(10) || chr(10) || '输入: ' || input END},
    {'from': 'assistant',
     'value': CASE WHEN $include_reasoning AND reasoning <> ''
                   THEN reasoning || chr(10) || chr(10) || output ELSE output END}
] AS conversations
FROM export_rows
WHERE output <> ''
ORDER BY record, ordinal
