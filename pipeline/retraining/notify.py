"""Tell people how a retraining ended: by webhook, or by any notification block that Prefect knows."""

import inspect
from collections.abc import Callable
from typing import Any

from pipeline.retraining.history import Record
from pipeline.retraining.summary import headline

SECONDS = 20


def send(record: Record, text: str, targets: list[str], log: Callable[[str], None]) -> None:
    """Send `text` (the summary) to each target: an http(s) address, which gets JSON, or TYPE/NAME of a Prefect block.

    A target that cannot be reached is logged, and changes nothing about the retraining.
    """
    subject = headline(record)
    content = {"subject": subject, "text": text, "name": record.name, "outcome": record.outcome, "error": record.error}
    for number, target in enumerate(targets, 1):
        try:
            if target.startswith(("http://", "https://")):
                _post(target, content)
            else:
                _tell_block(target, subject, text, content)
        except Exception as error:  # whatever a chat service or a block raises, the retraining is done
            # The address may hold a secret: say which one, not what it is.
            log(f"warning: notification {number} was not sent ({type(error).__name__})")


def _post(address: str, content: dict[str, Any]) -> None:
    import httpx

    httpx.post(address, json=content, timeout=SECONDS).raise_for_status()


def _tell_block(name: str, subject: str, text: str, content: dict[str, Any]) -> None:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.blocks.webhook import Webhook
    from prefect.utilities.asyncutils import run_coro_as_sync

    block = Block.load(name, _sync=True)  # type: ignore[call-arg]
    if isinstance(block, Webhook):
        run_coro_as_sync(_called(block, content))
    elif isinstance(block, NotificationBlock):
        with block.raise_on_failure():
            run_coro_as_sync(_awaited(block.notify(text, subject)))
    else:
        raise TypeError(f"{name} is no notification block")


async def _awaited(answer: Any) -> None:
    if inspect.isawaitable(answer):
        await answer


async def _called(block: Any, content: dict[str, Any]) -> None:
    answer = await block.call(content)
    answer.raise_for_status()
