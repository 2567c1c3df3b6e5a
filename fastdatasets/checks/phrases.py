"""Checks of what an answer says instead of an answer: refusals, talk about the prompt, tokens."""

from __future__ import annotations

import re

from store.answers.answers import AnswerToCheck

_SHOWN = 60  # characters of an answer in a reason

# Beginnings of texts without an answer, whatever follows: reasons, alternatives.
APOLOGY = re.compile(
    r"\W*(?:(?:i['’]?m|i am)\s+(?:\w+\s+)?)?(?:sorry|afraid|unable|not able)\b"
    r"|\W*i\s+(?:cannot|can['’]?t|can not|won['’]?t|will not|must decline|apologi[sz]e)\b"
    r"|\W*(?:unfortunately|my apologies|as an ai)\b"
    r"|\W*(?:[很非常十分]*抱歉|对不起|不好意思|很?遗憾|我?(?:无法|不能|拒绝)|作为一?[个名]?(?:AI|人工智能|语言模型))",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\bi(?:['’]?m|\s+am)?\s+(?:cannot|can['’]?t|can not|won['’]?t|will not|unable to|not able to)"
    r"\s+(?:\w+\s+){0,2}?(?:help|assist|comply|provide|fulfil|create|generate|write|produce|support)"
    r"|(?:^|[我，,。])\s*(?:无法|不能|不会|拒绝)(?:[为帮给][您你])?(?:继续)?"
    r"(?:提供|协助|帮助|生成|编写|满足|回答|完成)",
    re.IGNORECASE,
)
_REFUSED_WITHIN = 200  # characters of an answer that begins with an apology

# An answer about the prompt. 'According to the instructions' may be about those of a recipe.
_PROMPT_TALK = re.compile(
    r"""\W{0,4}(?:
        (?:here\ is\ |this\ is\ |below\ is\ )?(?:the|a|an)\ (?:\w+\ )?
            (?:output|response|answer|result|reply)\ (?:of|to|for)\ (?:the|this|that|your)
            \ (?:(?:given|above|provided)\ )?(?:instruction|prompt)s?\b
        |(?:the|this|your)\ (?:(?:given|above|provided)\ )?(?:instruction|prompt)s?
            \ (?:is|are|asks?|requires?|states?|says?|can|should|would|will|provided|given|you)\b
        |(?:based\ on|according\ to|as\ per|following|given|in\ response\ to)\ (?:the|this|your)
            \ (?:(?:given|above|provided)\ )?(?:prompt|instruction)\b
        |(?:根据|按照|依照|遵照)(?:您|你|用户|给定|提供|上述|以上|上面|该|这个)的?(?:指令|提示词?|指示)
        |(?:该|这个|这条|此|您的|你的|上述|以上)(?:指令|提示词?)(?:要求|的|是|需要|说|中|可以|应该)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_ABOUT_PROMPTS = re.compile(r"prompt|instruction|提示|指令|指示", re.IGNORECASE)

_TOKEN = re.compile(
    r"<\|(?:im_(?:start|end|sep)|endoftext|e[on][mt]_id|(?:start|end)_header_id|begin_of_text"
    r"|end_of_text|finetune_right_pad_id|python_tag|user|assistant|system|observation|tool|end|pad"
    r"|start|channel|message|return|call|constrain|fim_\w+|file_sep|repo_name|endofprompt"
    r"|(?:start|end)_of_role|(?:START|END)_OF_TURN_TOKEN|(?:USER|CHATBOT|SYSTEM)_TOKEN)\|>"
    r"|<｜[\w▁]+｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?think>|\[/?THINK\]"
    r"|\[/?(?:TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]|</?tool_call>|</s>\s*\Z"
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def check_refusal(answer: AnswerToCheck) -> str | None:
    """Reject an answer that begins with an apology and says that there will be none."""
    text = answer.output
    if not APOLOGY.match(text):
        return None
    found = REFUSAL.search(text, 0, _REFUSED_WITHIN)
    return f"it begins with {_quoted(text)}" if found else None


def check_prompt_talk(answer: AnswerToCheck) -> str | None:
    """Reject an answer that begins with words about the prompt; questions may be about prompts."""
    found = _PROMPT_TALK.match(answer.output)
    if (
        not found
        or _ABOUT_PROMPTS.search(answer.instruction)
        or _ABOUT_PROMPTS.search(answer.input)
    ):
        return None
    return f"it begins with {_quoted(answer.output)}"


def check_template_tokens(answer: AnswerToCheck) -> str | None:
    """Reject an answer with a chat template's tokens, outside of code and not in the question."""
    text = answer.output
    if "<" not in text and "[" not in text:
        return None
    if not (found := _TOKEN.search(text)):
        return None
    if "`" in text and not (found := _TOKEN.search(_CODE.sub("", text))):
        return None
    token = found[0].strip()
    return None if token in answer.instruction or token in answer.input else f"it has {token}"


def check_echo(answer: AnswerToCheck) -> str | None:
    """Reject an answer that is the question, or begins with it.

    Code and texts to be continued may begin an answer.
    """
    question = answer.instruction.strip()
    if not _begin_alike(answer.output, question):
        return None
    asked, said = _letters(question), _letters(answer.output[: 2 * len(question) + 200])
    if len(asked) < _ECHOED or not said.startswith(asked):
        return None
    if said == asked or said == asked + _letters(answer.input):
        return "it is the question"
    if _CONTINUED.search(question):
        return None
    return "it begins with the question"


_ECHOED = 12  # letters and digits
_CONTINUED = re.compile(
    r"continu|complet|finish|fill|repeat|rewrite|copy|correct|续写|补全|补充|接着|填|重复|改写|[{};=]|^\s*(?:def|class|import|from)\b",
    re.IGNORECASE | re.MULTILINE,
)
_NO_LETTERS = re.compile(r"[\W_]+")
_FIRST = re.compile(r"[^\W_]+")


def _begin_alike(one: str, other: str) -> bool:
    """Whether the first words of two texts are equal, which most texts' are not."""
    first, second = _FIRST.search(one), _FIRST.search(other)
    if not first or not second:
        return False
    length = min(len(first[0]), len(second[0]), 12)
    return first[0][:length].lower() == second[0][:length].lower()


def _letters(text: str) -> str:
    """A text's letters and digits."""
    return _NO_LETTERS.sub("", text).lower()


def _quoted(text: str) -> str:
    """The beginning of an answer, in one line."""
    beginning = " ".join(text[: 4 * _SHOWN].split())
    return f"'{beginning[:_SHOWN]}{'…' if len(beginning) > _SHOWN else ''}'"
