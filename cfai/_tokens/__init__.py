"""An event stream -> tokens. The one room with httpx-sse, imported when a stream needs it."""

from cfai._tokens.events import Events
from cfai._tokens.opening import begun, unasked
from cfai._tokens.relay import Relay
from cfai._tokens.stream import TokenStream

__all__ = ["Events", "Relay", "TokenStream", "begun", "unasked"]
