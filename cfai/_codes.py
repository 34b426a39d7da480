"""The service's own codes: which HTTP status each means, and what to do about it."""

from typing import NamedTuple


class Code(NamedTuple):
    """A code's status, whether it decides over the answer's own, and what to do about it."""

    status: int | None
    decides: bool
    hint: str


_QUOTA = "The day's allocation is used up: wait for 00:00 UTC, or use a paid plan."
_PRIVATE = "The model is private, and not open to this account."
_NO_MODEL = "Check the model's name: developers.cloudflare.com/workers-ai/models lists all."

# Source: developers.cloudflare.com/workers-ai/platform/errors, down to 3040. The others were
# observed, some of them under several statuses: there the status decides.
CODES: dict[int, Code] = {
    5007: Code(400, True, _NO_MODEL),
    5004: Code(400, True, "The model takes this media in another form; see `media_form`."),
    3039: Code(400, True, "Upload both adapter_config.json and adapter_model.safetensors."),
    3003: Code(400, True, ""),
    5018: Code(403, True, _PRIVATE),
    3041: Code(403, True, _PRIVATE),
    5016: Code(403, True, 'Accept the model\'s licence: run it with Prompt("agree").'),
    3023: Code(403, True, "The account is blocked: ask Cloudflare's support."),
    5019: Code(405, True, ""),
    5005: Code(405, True, "The model takes no LoRA: choose one that does."),
    3042: Code(404, True, _NO_MODEL),
    3006: Code(413, True, "Send less in one request: a smaller file, or fewer texts."),
    3007: Code(408, True, "Ask for less in one request (`max_tokens`), or stream."),
    3008: Code(408, True, ""),
    3036: Code(429, True, _QUOTA),
    3040: Code(429, True, "The model is busy: try again soon, or take another model."),
    4006: Code(429, True, _QUOTA),
    3037: Code(400, False, "Check the fine-tune's id and account, and that both files are there."),
    5006: Code(400, False, "Look up the model's own input schema, on its page of the catalogue."),
    8001: Code(400, False, ""),
    8005: Code(500, False, ""),
    8006: Code(400, False, "Raise `max_tokens`: reasoning left none for the forced tool call."),
    1001: Code(400, False, ""),
    7000: Code(400, False, "No such endpoint: check the model's name and `base_url`."),
    7003: Code(404, False, "Check the account id: 32 hexadecimal digits, and not the token."),
    10000: Code(401, False, 'The token needs the permission "Workers AI Read" on this account.'),
    2001: Code(400, False, "Create the AI Gateway first, or check its name."),
    2009: Code(401, False, "The AI Gateway asks for a token of its own (cf-aig-authorization)."),
    2016: Code(None, False, "The guardrails of the AI Gateway blocked the prompt."),
    2017: Code(None, False, "The guardrails of the AI Gateway blocked the answer."),
    2021: Code(402, False, "There is no credit for unified billing on this account."),
}
"""The service's codes."""
