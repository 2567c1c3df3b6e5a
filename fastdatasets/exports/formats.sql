-- The columns of every format, from the view answer_rows, with record, ordinal and generation;
-- fastdatasets/exports/formats.py chooses among them. 'training' is what the training formats select from: rows with
-- an answer, without those of the relation left_out; of the test set where $is_test, else the others. $reasoning: where
-- the reasoning goes; 'plain': before the answer, and a blank line. $turns, $calls: the types of messages and calls.
-- is_plain: one question and one answer, which sharegpt and messages write without a list of turns, in half the time.
-- fits_images: the texts have an '<image>' for each image, unless the teacher has written one. $has_images: whether any
-- row of the run has images: then all contents of messages are parts, since a column has one type.

-- name: training
SELECT record, ordinal, generation, instruction, input, coalesce(system, '') AS system, coalesce(tools, '[]') AS tools,
       CASE WHEN input = '' THEN instruction WHEN instruction = '' THEN input
            ELSE instruction || chr(10) || chr(10) || input END AS question,
       CASE WHEN reasoning = '' THEN ''
            WHEN $reasoning = 'think'
            THEN '<think>' || chr(10) || reasoning || chr(10) || '</think>' || chr(10) || chr(10)
            WHEN $reasoning = 'plain' THEN reasoning || chr(10) || chr(10) ELSE '' END AS thoughts,
       output, thoughts || output AS answer, reasoning,
       history IS NULL AND tool_calls IS NULL AS is_plain, images,
       len(images) = 0
           OR len(images) = len(string_split(concat_ws('', instruction, input, output, history), '<image>')) - 1
           AS fits_images,
       CASE WHEN history IS NULL THEN []
            ELSE list_transform(json_transform(history, $turns), lambda turn: {
                'role': turn.role, 'content': coalesce(turn.content, ''),
                'reasoning_content': CASE WHEN $reasoning = 'field' THEN turn.reasoning_content END,
                'tool_calls': CASE WHEN len(turn.tool_calls) > 0 THEN turn.tool_calls END,
                'tool_call_id': turn.tool_call_id}) END AS earlier,
       CASE WHEN tool_calls IS NULL THEN [] ELSE json_transform(tool_calls, $calls) END AS calls
FROM answer_rows
ANTI JOIN left_out USING (record, ordinal, generation)
WHERE (output <> '' OR tool_calls IS NOT NULL) AND (record IN (SELECT record FROM test_records)) = $is_test;

-- name: distilled
SELECT record, ordinal, generation, instruction, input, output, reasoning, finish_reason, model, source_row,
       original_instruction, ordinal AS variant, coalesce(system, '') AS system,
       coalesce(history, '[]')::JSON AS history, coalesce(tools, '[]') AS tools,
       coalesce(tool_calls, '[]')::JSON AS tool_calls,
       coalesce(original_outputs, '[]')::JSON AS original_outputs, images, source,
       coalesce(verdicts, '[]')::JSON AS verdicts,
       score, score_reason, final_answer, agreement
FROM answer_rows;

-- name: raw
SELECT record, ordinal, generation, instruction, input, output, reasoning, finish_reason, model, source_row,
       original_instruction, ordinal AS variant, coalesce(system, '') AS system,
       coalesce(history, '[]')::JSON AS history, coalesce(tools, '[]') AS tools,
       coalesce(tool_calls, '[]')::JSON AS tool_calls,
       coalesce(original_outputs, '[]')::JSON AS original_outputs, images,
       coalesce(verdicts, '[]')::JSON AS verdicts, score, score_reason, final_answer, agreement,
       source, split, run_id::VARCHAR AS run_id, backend, coalesce(request_id::VARCHAR, '') AS request_id,
       coalesce(params, '{}') AS params, prompt_tokens, cached_tokens, completion_tokens, cost::DOUBLE / 1e12 AS cost
FROM answer_rows
LEFT JOIN answer_requests USING (request_id);

-- name: alpaca
-- Rows without tool calls, whose earlier turns are pairs of question and answer.
SELECT record, ordinal, generation, instruction, input, answer AS output, system, reasoning, images,
       list_transform(range(len(earlier) // 2), lambda pair: [earlier[2 * pair + 1].content,
                                                              earlier[2 * pair + 2].content]) AS history
FROM training
WHERE fits_images AND len(calls) = 0 AND len(earlier) % 2 = 0
      AND coalesce(list_bool_and(list_transform(earlier, lambda turn, place:
              turn.role = CASE WHEN place % 2 = 1 THEN 'user' ELSE 'assistant' END AND turn.tool_calls IS NULL)), true);

-- name: sharegpt
-- Rows in which questions or tool results alternate with answers or tool calls. A turn of tool calls is {name,
-- arguments}, or a list of these, without other text. Labels only where there is no earlier turn.
SELECT record, ordinal, generation, tools, reasoning, images,
       CASE WHEN system = '' THEN [] ELSE [{'from': 'system', 'value': system}] END
       || CASE WHEN is_plain THEN [{'from': 'human', 'value': labelled}, {'from': 'assistant', 'value': answer}]
               ELSE list_transform(turns, lambda turn: {
                   'from': CASE WHEN turn.tool_calls IS NOT NULL THEN 'function_call'
                                WHEN turn.role = 'user' THEN 'human' WHEN turn.role = 'tool' THEN 'observation'
                                ELSE turn.role END,
                   'value': CASE WHEN turn.tool_calls IS NULL THEN turn.content
                                 ELSE CASE WHEN $reasoning = 'think' THEN coalesce(turn.reasoning_content, '')
                                           ELSE '' END
                                      || CASE WHEN len(turn.objects) = 1 THEN turn.objects[1]
                                              ELSE to_json(turn.objects) END END}) END AS conversations
FROM (
    SELECT *, CASE WHEN NOT is_plain THEN list_transform(
        earlier || [
            {'role': 'user', 'content': CASE WHEN len(earlier) > 0 THEN question ELSE labelled END},
            {'role': 'assistant', 'content': CASE WHEN len(calls) = 0 THEN answer ELSE output END,
             'reasoning_content': thoughts, 'tool_calls': CASE WHEN len(calls) > 0 THEN calls END}],
        lambda turn: struct_insert(turn, objects := list_transform(turn.tool_calls, lambda call: to_json({
            'name': call.function.name, 'arguments': try_cast(call.function.arguments AS JSON)})))) END AS turns
    FROM (
        SELECT *, CASE WHEN $labels = 'none' THEN question
                       WHEN input = '' THEN '指令: ' || instruction
                       WHEN instruction = '' THEN '输入: ' || input
                       ELSE '指令: ' || instruction || chr(10) || chr(10) || '输入: ' || input END AS labelled
        FROM training WHERE fits_images))
WHERE is_plain
      OR len(turns) % 2 = 0
      AND list_bool_and(list_transform(turns, lambda turn, place:
              CASE WHEN place % 2 = 1 THEN turn.role IN ('user', 'tool') ELSE turn.role = 'assistant' END
              AND (turn.tool_calls IS NULL
                   OR turn.content = '' AND list_bool_and(list_transform(turn.tool_calls, lambda call:
                          json_valid(call.function.arguments))))));

-- name: messages
-- With images contents are parts of the form {type: text, text} and {type: image}, the images themselves a column.
SELECT record, ordinal, generation, tools, images,
       CASE WHEN is_plain AND system = '' AND $reasoning <> 'field' AND NOT $has_images
            THEN [to_json({'role': 'user', 'content': question}), to_json({'role': 'assistant', 'content': answer})]
            ELSE list_transform(
                CASE WHEN system = '' THEN [] ELSE [{'role': 'system', 'content': system}] END
                || earlier
                || [{'role': 'user', 'content': question},
                    {'role': 'assistant', 'content': answer,
                     'reasoning_content': CASE WHEN $reasoning = 'field' AND reasoning <> '' THEN reasoning END,
                     'tool_calls': CASE WHEN len(calls) > 0 THEN calls END}],
                lambda turn: json_merge_patch('{}', CASE WHEN NOT $has_images THEN to_json(turn)
                    ELSE to_json(struct_update(turn, content := CASE
                        WHEN len(images) = 0 OR turn.role <> 'user'
                        THEN [to_json({'type': 'text', 'text': turn.content})]
                        ELSE flatten(list_transform(string_split(turn.content, '<image>'), lambda part, place:
                            CASE WHEN place > 1 THEN [to_json({'type': 'image'})] ELSE [] END
                            || CASE WHEN regexp_matches(part, '\S')
                                    THEN [to_json({'type': 'text', 'text': trim(part, chr(10))})] ELSE [] END))
                        END)) END)) END AS messages
FROM training;

-- name: prompt_completion
-- Rows of one question, without tool calls and images.
SELECT record, ordinal, generation,
       CASE WHEN system = '' THEN question ELSE system || chr(10) || chr(10) || question END AS prompt,
       answer AS completion, reasoning
FROM training
WHERE len(calls) = 0 AND len(earlier) = 0 AND len(images) = 0;
