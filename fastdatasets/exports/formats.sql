-- Every export by its file: the objects it is made of, from the view export_rows. $include_reasoning: the
-- reasoning, a blank line, then the output. Rows without an output are in no training file.
-- $drop_truncated: nor does a row whose answer was cut off at the token limit.

-- name: distilled
SELECT record, ordinal, {
    'instruction': instruction, 'input': input, 'output': output, 'reasoning': reasoning,
    'finish_reason': finish_reason, 'model': model, 'source_row': source_row
} AS object
FROM export_rows;

-- name: augmented
SELECT record, ordinal, {
    'instruction': instruction, 'input': input, 'output': output, 'reasoning': reasoning,
    'finish_reason': finish_reason, 'model': model, 'source_row': source_row,
    'original_instruction': original_instruction, 'variant': ordinal
} AS object
FROM export_rows;

-- name: alpaca
SELECT record, ordinal, {
    'instruction': instruction, 'input': input,
    'output': CASE WHEN $include_reasoning AND reasoning <> '' THEN reasoning || chr(10) || chr(10) || output
                   ELSE output END
} AS object
FROM export_rows
WHERE output <> '' AND NOT ($drop_truncated AND coalesce(finish_reason, '') = 'length');

-- name: sharegpt
SELECT record, ordinal, {'conversations': [
    {'from': 'human',
     'value': CASE WHEN input = '' THEN '指令: ' || instruction
                   WHEN instruction = '' THEN '输入: ' || input
                   ELSE '指令: ' || instruction || chr(10) || chr(10) || '输入: ' || input END},
    {'from': 'assistant',
     'value': CASE WHEN $include_reasoning AND reasoning <> ''
                   THEN reasoning || chr(10) || chr(10) || output ELSE output END}
]} AS object
FROM export_rows
WHERE output <> '' AND NOT ($drop_truncated AND coalesce(finish_reason, '') = 'length');
