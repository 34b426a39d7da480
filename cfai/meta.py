"""What is known of one exchange with the service besides its answer: ids, attempts, limits."""

from attrs import frozen

__all__ = ["Meta"]


@frozen
class Meta:
    """The facts around one answer. Whatever the service did not say is `None`."""

    status: int | None = None
    """The HTTP status."""

    ray_id: str | None = None
    """Cloudflare's id of the request (`cf-ray`): name it when you ask their support."""

    request_id: str | None = None
    """Workers AI's own id of the inference (`cf-ai-req-id`)."""

    attempts: int = 1
    """How many times the request was sent, this one included."""

    elapsed: float = 0.0
    """Seconds from the call to the answer, over all attempts and the pauses between them."""

    rate_limit: str | None = None
    """The header `Ratelimit` as it came: what is left, and for how many seconds."""

    rate_limit_policy: str | None = None
    """The header `Ratelimit-Policy` as it came: how much the API allows in how many seconds."""

    gateway_log_id: str | None = None
    """The AI Gateway's id of its log entry (`cf-aig-log-id`)."""

    cache_status: str | None = None
    """Whether the AI Gateway answered from its cache (`cf-aig-cache-status`: HIT or MISS)."""

    media_type: str | None = None
    """The Content-Type of the answer, without parameters and in lower case."""

    backend: str | None = None
    """What computed the answer, said by the local server only (`cfai-backend`)."""
