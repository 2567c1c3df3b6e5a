"""Prices of models."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fastdatasets.pricing.prices import ModelPrice, find_price, given_price, parse_price, usd
from store import UserError

OPENAI = "https://api.openai.com/v1"
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def price(source: str, paid: str, cached: str, written: str, answered: str) -> ModelPrice:
    """A price out of the library's table."""
    return ModelPrice(
        input=Decimal(paid),
        cached_input=Decimal(cached),
        written_input=Decimal(written),
        output=Decimal(answered),
        source=f"genai-prices 0.2.3: {source}",
    )


def test_price_in_a_batch_is_half() -> None:
    """The same model costs half in a batch."""
    assert [find_price("gpt-4o-mini", OPENAI, batch=batch, at=AT) for batch in (False, True)] == [
        price("openai gpt-4o-mini, live", "0.15", "0.075", "0.15", "0.6"),
        price("openai gpt-4o-mini, batch", "0.075", "0.075", "0.075", "0.3"),
    ]


def test_cached_tokens_of_a_batch() -> None:
    """Cached tokens of a batch cost less only where the table says so of batches."""
    assert [find_price(model, OPENAI, batch=True, at=AT) for model in ("o3", "gpt-5")] == [
        price("openai o3, batch", "1", "1", "1", "4"),
        price("openai gpt-5, batch", "0.625", "0.0625", "0.625", "5"),
    ]


@pytest.mark.parametrize(
    ("longest_prompt", "expected"),
    [
        (272_000, ("0.05", "0.005", "0.0625", "0.25")),
        (272_001, ("0.1", "0.01", "0.125", "0.375")),
        (None, ("0.1", "0.01", "0.125", "0.375")),
    ],
)
def test_price_by_length(longest_prompt: int | None, expected: tuple[str, str, str, str]) -> None:
    """The price is that of the longest prompt's tier, and the highest where no length is given."""
    assert find_price(
        "gpt-6-luna", OPENAI, batch=True, longest_prompt=longest_prompt, at=AT
    ) == price("openai gpt-6-luna, batch", *expected)


def test_price_by_hour() -> None:
    """Where nights are cheaper than days, the day's price is taken at night as well."""
    night = datetime(2026, 11, 20, 18, tzinfo=UTC)
    assert find_price(
        "deepseek-flash", "https://api.deepseek.com/v1", batch=False, at=night
    ) == price("deepseek deepseek-flash, live", "0.3", "0.006", "0.3", "1.2")


def test_price_by_date() -> None:
    """The price is the one in force when the tokens are used."""
    before = datetime(2026, 7, 1, tzinfo=UTC)
    assert [
        find_price("gpt-5.6-luna", OPENAI, batch=False, longest_prompt=1000, at=at)
        for at in (before, AT)
    ] == [
        price("openai gpt-5.6-luna, live", "1", "0.1", "1.25", "6"),
        price("openai gpt-5.6-luna, live", "0.2", "0.02", "0.25", "1.2"),
    ]


@pytest.mark.parametrize("model", ["gpt-4o-2024-11-20", "GPT-4o", "gpt-4o-20241120"])
def test_editions_of_a_model(model: str) -> None:
    """A dated edition has the price that the table gives it."""
    assert find_price(model, OPENAI, batch=True, at=AT) == price(
        "openai gpt-4o, batch", "1.25", "1.25", "1.25", "5"
    )


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-mini-lookalike",
        "gpt-5-nano-lookalike",
        "my-gpt-4o",
        "m",
        "",
        "/models/gpt-4o",
        "openai/gpt-4o-mini",
        "Qwen/Qwen2.5-7B-Instruct",
        "deepseek-r1-distill-qwen-7b",
        "gpt-oss-20b",
        "gpt-moderation",
        "whisper-1",
    ],
)
def test_no_price(model: str) -> None:
    """A model that is only named like another has no known price, nor has one not paid by token."""
    assert [find_price(model, at, batch=False, at=AT) for at in (OPENAI, None)] == [None, None]


@pytest.mark.parametrize(
    ("base_url", "model", "expected"),
    [
        ("https://API.OpenAI.com/v1/", "gpt-4o-mini", "openai gpt-4o-mini, live"),
        (
            "https://openrouter.ai/api/v1",
            "openai/gpt-4o-mini",
            "openrouter openai/gpt-4o-mini, live",
        ),
        ("https://api.groq.com/openai/v1", "openai/gpt-oss-20b", "groq openai/gpt-oss-20b, live"),
        ("https://api.deepseek.com", "deepseek-chat", "deepseek deepseek-chat, live"),
        (None, "gpt-4o-mini", "openai gpt-4o-mini, live"),
        ("https://api.deepseek.com", "gpt-4o-mini", None),
        ("http://127.0.0.1:8000/v1", "gpt-4o-mini", None),
        ("https://gateway.example.com/v1", "gpt-4o-mini", None),
        # Not OpenAI's host, a region of its own price, and OpenAI's table for another provider.
        ("https://api.openai.com.example.com/v1", "gpt-4o-mini", None),
        ("https://eu.api.openai.com/v1", "gpt-4o-mini", None),
        ("https://mine.openai.azure.com/openai/v1", "gpt-4o-mini", None),
    ],
)
def test_price_is_the_providers(base_url: str | None, model: str, expected: str | None) -> None:
    """A price is that of the provider at the address, whatever the model's name."""
    found = find_price(model, base_url, batch=False, at=AT)
    assert (found and found.source) == (expected and f"genai-prices 0.2.3: {expected}")


def test_no_batch_price() -> None:
    """A model without a batch price has none in a batch, rather than its live one."""
    assert (
        find_price("gpt-4o-2024-11-20", OPENAI, batch=True, at=datetime(2026, 1, 1, tzinfo=UTC))
        is None
    )
    assert find_price("o1-mini", OPENAI, batch=True, at=AT) is None
    assert find_price("o1-mini", OPENAI, batch=False, at=AT) == price(
        "openai o1-mini, live", "1.1", "0.55", "1.1", "4.4"
    )


def test_batch_without_a_discount() -> None:
    """A batch price that equals the live one is known."""
    assert find_price("gpt-3.5-turbo-1106", OPENAI, batch=True, at=AT) == price(
        "openai gpt-3.5-turbo-1106, batch", "1", "1", "1", "2"
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "ft:gpt-4o-mini-2024-07-18:org::id",
            price("openai ft:gpt-4o-mini, batch", "0.15", "0.15", "0.15", "0.6"),
        ),
        ("ft:gpt-4o-2024-08-06:org::id", None),
        ("ft:gpt-4-0613:org::id", None),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", None),
    ],
)
def test_fine_tuned_models(model: str, expected: ModelPrice | None) -> None:
    """A fine-tuned model has the price of its kind, never that of the model it is made from."""
    assert find_price(model, OPENAI, batch=True, at=AT) == expected


def test_cost() -> None:
    """Cached and written tokens are part of the prompt, and are paid at their own prices."""
    luna = price("openai gpt-6-luna, live", "0.1", "0.01", "0.125", "0.5")
    assert luna.cost(1_000_000, 0, 1_000_000) == Decimal("0.6")
    assert luna.cost(1_000, 400, 200) == Decimal("0.000164")  # 600 × 0.1 + 400 × 0.01 + 200 × 0.5
    assert luna.cost(1_000, 400, 200, written_tokens=600) == Decimal("0.000179")


def test_worst_cost() -> None:
    """At worst the whole prompt is paid at the highest price a prompt's token can have."""
    luna = price("openai gpt-6-luna, live", "0.1", "0.01", "0.125", "0.5")
    assert luna.worst_cost(1_000, 200) == Decimal("0.000225")  # 1000 × 0.125 + 200 × 0.5


def test_price_given() -> None:
    """A price that a user gives holds for cached tokens too."""
    assert given_price(Decimal("0.25"), Decimal("2")) == ModelPrice(
        input=Decimal("0.25"),
        cached_input=Decimal("0.25"),
        written_input=Decimal("0.25"),
        output=Decimal("2"),
        source="--price-in/--price-out",
    )


def test_given_in_options() -> None:
    """Two options make a price, and none makes none."""
    assert parse_price("0.5", "2") == given_price(Decimal("0.5"), Decimal(2))
    assert parse_price(None, None) is None


@pytest.mark.parametrize(
    ("price_in", "price_out", "message"),
    [
        ("1", None, "--price-in and --price-out go together: give both or none"),
        (None, "1", "--price-in and --price-out go together: give both or none"),
        ("1", "cheap", "--price-out cheap: a number of USD is expected, 0 or more"),
        ("-1", "1", "--price-in -1: a number of USD is expected, 0 or more"),
        ("nan", "1", "--price-in nan: a number of USD is expected, 0 or more"),
        ("1", "inf", "--price-out inf: a number of USD is expected, 0 or more"),
    ],
)
def test_no_price_in_options(price_in: str | None, price_out: str | None, message: str) -> None:
    """A price that is none, or half of one, is the user's mistake."""
    with pytest.raises(UserError) as error:
        parse_price(price_in, price_out)
    assert str(error.value) == message


def test_amounts_for_a_person() -> None:
    """An amount that is not nothing is not shown as nothing."""
    amounts = ("0", "0.00001", "0.1234567", "12.3456")
    assert [usd(Decimal(amount)) for amount in amounts] == [
        "0.0000 USD",
        "under 0.0001 USD",
        "0.1235 USD",
        "12.35 USD",
    ]
