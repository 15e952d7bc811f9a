"""The options of commands whose work may be done by Dask workers, and the crew they ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs
import click

from segments.protocol.errors import ExtraMissing, Invalid
from sim.commands.progress import ProgressLine
from sim.crews.crew import Crew, Result, Work
from sim.crews.ledger import Item
from sim.crews.processes import LocalCrew

_F = TypeVar("_F", bound=Callable[..., Any])
_NEEDED: Final = frozenset({"dask", "distributed"})
_TLS: Final = {
    "tls_ca_file": "tls_ca_file",
    "tls_cert": "tls_client_cert",
    "tls_key": "tls_client_key",
}
"""Our options, and how `distributed.Security` calls them."""
_PEM: Final = click.Path(exists=True, dir_okay=False)


@attrs.frozen
class Scheduler:
    """A Dask scheduler, as a command line names it."""

    address: str
    tls: dict[str, str]
    """Fields of `distributed.Security`; what is not in it Dask's own configuration has."""


def scheduler_of(address: str | None, tls: dict[str, str], unencrypted: bool) -> Scheduler | None:
    """The scheduler that is meant, None without an address; raises `Invalid`.

    Whoever reaches a scheduler can have its workers run anything, and sends what is unpickled here.
    So without certificates it has to be one of this machine, unless that is ``unencrypted`` on
    purpose.
    """
    if address is None:
        if tls or unencrypted:
            raise Invalid("options for a scheduler, and none is named: expected --scheduler")
        return None
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("tls", "tcp") or not host or port is None:
        raise Invalid(f"{address!r}: expected tls://HOST:PORT, as `dask scheduler` shows it")
    if parts.scheme == "tcp" and not unencrypted and not _is_loopback(host):
        raise Invalid(
            f"{address!r}: whoever reaches it can run anything on its workers: expected tls://, or "
            "--unencrypted in a network where everybody may"
        )
    if parts.scheme == "tcp" and tls:
        raise Invalid(f"{address!r} goes without certificates: expected tls://, or none of them")
    return Scheduler(address, tls)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def scheduler_options(command: _F) -> _F:
    """The options that name a scheduler; the command gets ``scheduler``, None without one."""

    @wraps(command)
    def gathered(*arguments: Any, **given: Any) -> Any:
        address, unencrypted = given.pop("scheduler"), given.pop("unencrypted")
        files = {field: given.pop(name) for name, field in _TLS.items()}
        tls = {field: path for field, path in files.items() if path}
        try:
            scheduler = scheduler_of(address, tls, unencrypted)
        except Invalid as error:
            raise click.BadParameter(str(error), param_hint="--scheduler") from None
        return command(*arguments, scheduler=scheduler, **given)

    options = (
        click.option(
            "--scheduler", metavar="ADDRESS",
            help="Have the workers of this Dask scheduler do it (tls://host:8786).",
        ),
        click.option(
            "--tls-ca-file", type=_PEM, metavar="PEM", help="Whose signature all certificates have."
        ),
        click.option("--tls-cert", type=_PEM, metavar="PEM", help="Our own certificate."),
        click.option("--tls-key", type=_PEM, metavar="PEM", help="The key to that."),
        click.option(
            "--unencrypted", is_flag=True, help="Allow for tcp:// to a host that is not this one."
        ),
    )  # fmt: skip
    found: Any = gathered
    for option in reversed(options):
        found = option(found)
    result: _F = found
    return result


def open_crew(
    scheduler: Scheduler | None,
    work: Work[Item, Result],
    *,
    jobs: int,
    item_s: float,
    left_s: Callable[[], float | None],
    progress: ProgressLine,
) -> Crew[Item, Result]:
    """Those who do ``work``: the workers of ``scheduler``, without one ``jobs`` processes here.

    ``item_s`` is about what an item takes, ``left_s`` tells how long items may still begin. Raises
    `ExtraMissing`, and `Unavailable` if there is no such scheduler.
    """
    if scheduler is None:
        return LocalCrew(jobs, work)
    try:
        from sim.crews.dask_crew import DaskCrew, connect
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise ExtraMissing(
            f"{error.name} is not installed, which --scheduler needs: expected the extra `fleet`, "
            "as in pip install 'aurora-py[fleet]'"
        ) from error

    def say(text: str) -> None:
        progress.clear()
        click.echo(text, err=True)

    client = connect(scheduler.address, scheduler.tls)
    return DaskCrew(client, work, item_s=item_s, left_s=left_s, say=say)
