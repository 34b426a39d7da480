"""`Meta`: ids, attempts, time, limits and cost of one exchange with the service."""

from attrs import frozen

from cfai._types.values import Value

__all__ = ["Meta"]


@frozen(eq=False, repr=False)
class Meta(Value):
    """Facts about one answer. A field that the service did not send is `None`."""

    status: int | None = None
    """The HTTP status."""

    ray_id: str | None = None
    """Cloudflare's id of the request (`cf-ray`), which their support asks for."""

    request_id: str | None = None
    """The id of the inference in Workers AI (`cf-ai-req-id`)."""

    attempts: int = 1
    """How many requests the call has sent: all attempts, on every route and to every model."""

    elapsed: float = 0.0
    """Seconds from the call to the answer, with all attempts and the delays between them."""

    rate_limit: str | None = None
    """The header `Ratelimit` as received: how many requests are left, for how many seconds."""

    rate_limit_policy: str | None = None
    """The header `Ratelimit-Policy` as received: how many requests are allowed in which time."""

    gateway_log_id: str | None = None
    """The id of the AI Gateway's log entry (`cf-aig-log-id`)."""

    cache_status: str | None = None
    """Whether the AI Gateway used its cache (`cf-aig-cache-status`: HIT or MISS)."""

    media_type: str | None = None
    """The Content-Type of the answer, in lower case and without parameters."""

    backend: str | None = None
    """The backend that computed the answer; only the local server sends it (`cfai-backend`)."""

    neurons: float | None = None
    """What the answer cost, in neurons (`cf-ai-neurons`), also for images and raw audio."""

    gateway_request_id: str | None = None
    """The AI Gateway's id of the request (`cf-aig-request-id`)."""

    gateway_event_id: str | None = None
    """The AI Gateway's id of the event in its logs (`cf-aig-event-id`)."""

    gateway_run_id: str | None = None
    """The AI Gateway's id of the run (`cf-aig-run-id`)."""

    gateway_step: str | None = None
    """The step of a dynamic route that answered (`cf-aig-step`)."""

    routed_model: str | None = None
    """The model that the AI Gateway's Auto Router chose (`cf-aig-routed-model`)."""

    routing_reason: str | None = None
    """Why it chose the model, such as "cost_optimal_within_pool" (`cf-aig-routing-reason`)."""

    routing_decision_id: str | None = None
    """The id of the choice (`cf-aig-routing-decision-id`)."""

    model: str | None = None
    """The model that answered, as named in the call, which may have named several."""
