"""What bounds the asking of an endpoint: requests per minute, dollars, unusable answers."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from open_rs.errors import GuardStop
from open_rs.interrupt import pay
from open_rs.recipe import OpenAIEngineSpec
from open_rs.rollout.protocol import Prompt, SamplingParams

TEMPLATE_TOKENS = 64  # allowed for what a server's chat template adds to a prompt
FEWEST_UNDECIDED = 8  # below this many, a share says little


class Pacer:
    """Lets one caller through every 60 / `per_minute` seconds, from any thread; None: at once."""

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        if not self._gap:
            return
        with self._lock:
            now = self._clock()
            mine = max(now, self._next)
            self._next = mine + self._gap
        if mine > now:
            self._sleep(mine - now)


class Budget:
    """Counts dollars, and refuses a request that could bring them above `max_usd`.

    What requests under way may cost at most is held back: every byte of the prompt a token, the
    completion at its cap. So the cap holds, but for attempts that a provider charges though they
    failed.
    """

    def __init__(self, spec: OpenAIEngineSpec, spent_usd: float = 0.0) -> None:
        """`spent_usd`: by an earlier start of the same stage."""
        self.max_usd = spec.max_usd
        self._prices = spec.prices
        self.spent_usd = spent_usd
        self.held_usd = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars; None without prices."""
        per_prompt, per_completion = self._prices
        if per_prompt is None or per_completion is None:
            return None
        return (prompt_tokens * per_prompt + completion_tokens * per_completion) / 1e6

    def most(self, prompt: Prompt, params: SamplingParams) -> float:
        """The most that one request can cost."""
        said = prompt.text + "".join(one["content"] for one in prompt.messages)
        tokens = len(said.encode()) + TEMPLATE_TOKENS
        return self.cost(tokens, params.max_completion_tokens) or 0.0

    def hold(self, usd: float) -> bool:
        """Whether a request that may cost `usd` can be sent; holds that much back if so."""
        if self.max_usd is not None and self.spent_usd + self.held_usd + usd > self.max_usd:
            return False
        self.held_usd += usd
        return True

    def settle(self, held: float, usd: float | None) -> None:
        """A request that held back `held` dollars has cost `usd`."""
        self.held_usd -= held
        self.spent_usd += usd or 0.0
        pay(usd or 0.0)

    def stop(self) -> GuardStop:
        return GuardStop(
            f"rollout.engine.max_usd = {self.max_usd:g}: {self.spent_usd:.4f} dollars are spent, "
            "and the next answer could cost more than is left; raise it and start again: what was "
            "answered is kept"
        )


class Undecided:
    """Counts what was asked and came without a usable answer, and stops where its share is too
    large. `where` and `what` begin the sentence, `cure` ends it.
    """

    def __init__(self, allowed: float, *, where: str, what: str, cure: str) -> None:
        self.allowed, self.where, self.what, self.cure = allowed, where, what, cure
        self.asked = 0
        self.reasons: Counter[str] = Counter()

    def count(self, reason: str | None) -> None:
        """One more has ended; `reason` says why it has no usable answer."""
        self.asked += 1
        if reason is not None:
            self.reasons[reason] += 1

    def check(self, *, ended: bool = False) -> None:
        """Raises `GuardStop` above the share that is allowed; `ended`: nothing follows."""
        undecided = self.reasons.total()
        enough = ended or undecided >= FEWEST_UNDECIDED
        if undecided and enough and undecided > self.allowed * self.asked:
            reason, count = self.reasons.most_common(1)[0]
            raise GuardStop(
                f"{self.where}: {undecided} of {self.asked} {self.what}, above max_undecided = "
                f"{self.allowed:g} ({count} x {reason}); {self.cure}: what was answered is kept"
            )
