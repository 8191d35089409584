"""Names that both sides of NVFlare's messages use."""

__all__ = ["CALL", "ENDING", "KEY", "LATE", "PULSE", "SERVER"]

#: Tasks: a call of the handler, and the news of how the run ended.
CALL, ENDING = "meshnet_call", "meshnet_end"
#: Where a packet lies in a Shareable.
KEY = "meshnet"
#: Topic of a site's signs of life, and where the answer says who is waited for.
PULSE, LATE = "meshnet.pulse", "late"
#: What NVFlare calls the centre.
SERVER = "server"
