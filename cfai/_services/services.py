"""`Services`: the part of a client that is not about runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfai._session import Session
from cfai._wire.failures import Scrub
from cfai.settings import Settings

if TYPE_CHECKING:
    from cfai._services.account import Account
    from cfai._services.finetunes import Finetunes
    from cfai._services.models import Models


class Services:
    """What an account has beside its runs. `cfai.WorkersAI` is one."""

    _session: Session
    _settings: Settings
    _scrub: Scrub

    @property
    def finetunes(self) -> Finetunes:
        """Fine-tunes: list, make and upload them."""
        from cfai._services.finetunes import Finetunes

        return Finetunes(self._account)

    @property
    def models(self) -> Models:
        """The catalogue: search models, and look up what they take."""
        from cfai._services.models import Models

        return Models(self._account)

    @property
    def _account(self) -> Account:
        from cfai._services.account import Account

        return Account(self._session, self._settings, self._scrub)
