-- name: chat
-- What a chat column ([{role, content}, …] or [{from, value}, …], as JSON text) has to say: its system
-- turn, its first user turn, and the first assistant turn after that. A content made of parts
-- ([{type: text, text: …}, …]) is the texts of its parts.
CREATE OR REPLACE TEMP MACRO chat_turns(chat) AS
    list_transform(
        from_json(CASE WHEN json_valid(chat) AND json_type(chat) = 'ARRAY' THEN chat ELSE '[]' END,
                  '[{"role":"VARCHAR","from":"VARCHAR","content":"JSON","value":"JSON"}]'),
        lambda turn: {
            'role': lower(coalesce(turn.role, turn."from")),
            'text': coalesce(
                CASE json_type(coalesce(turn.content, turn.value))
                    WHEN 'ARRAY' THEN
                        array_to_string(coalesce(turn.content, turn.value) ->> '$[*].text', chr(10))
                    ELSE coalesce(turn.content, turn.value) ->> '$'
                END, '')});
CREATE OR REPLACE TEMP MACRO turns_from_user(turns) AS
    list_slice(turns,
               coalesce(nullif(list_position(
                   list_transform(turns, lambda turn: turn.role IN ('user', 'human')), true), 0),
                   len(turns) + 1),
               len(turns));
CREATE OR REPLACE TEMP MACRO chat_system(chat) AS
    list_filter(chat_turns(chat), lambda turn: turn.role = 'system')[1].text;
CREATE OR REPLACE TEMP MACRO chat_instruction(chat) AS
    coalesce(turns_from_user(chat_turns(chat))[1].text, '');
CREATE OR REPLACE TEMP MACRO chat_output(chat) AS
    coalesce(list_filter(turns_from_user(chat_turns(chat)),
                         lambda turn: turn.role IN ('assistant', 'gpt', 'bot', 'model'))[1].text, '');
