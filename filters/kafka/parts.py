"""The parts of the filter, as a conversation uses them."""

from __future__ import annotations

from filters.kafka.messaging import Messaging
from filters.kafka.receiving import Receiving
from filters.kafka.sending import Producing
from meshproxy.filter import Environment, Filter


class Parts:
    """What is made anew with each configuration."""

    def __init__(self, environment: Environment) -> None:
        messaging = Messaging(environment)
        self.environment = environment
        self.producing = Producing(messaging)
        self.receiving = Receiving(messaging)


class Speaker(Filter):
    """A filter that holds these conversations."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.parts = Parts(environment)
