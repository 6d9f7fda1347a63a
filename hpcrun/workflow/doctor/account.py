"""The account that a run would use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from hpcrun.site import SiteConfig
from hpcrun.workflow.finding import Finding

ASSOCIATIONS = "`sacctmgr show associations user=$USER`"


class Person(NamedTuple):
    """Who asks: accounts, the default one first, None where nobody tells; groups; the account that
    a run which names none would use."""

    accounts: Sequence[str] | None
    groups: Collection[str]
    account: str | None


def account(site: SiteConfig, person: Person, config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the account that a run would use is one of the user's."""
    rules, accounts, used = site.scheduler.account, person.accounts, person.account
    enforced = "associations" in config.get("AccountingStorageEnforce", "")
    yours = f"yours are {', '.join(accounts)}" if accounts else "you have none"
    if accounts is None:
        yours = "this cluster tells nobody's accounts"
    if accounts is not None and used is not None and used not in accounts:
        listed = f"`{rules.list_command}`" if rules.list_command else ASSOCIATIONS
        message = f"{used} is none of your accounts: {yours}"
        cure = f"mend scheduler.account.default or resources.account; {listed} lists yours"
        yield Finding("error" if enforced else "warning", "account", message, cure)
    elif enforced and not accounts and accounts is not None:
        message = "you have no account, and this Slurm takes no job without one"
        yield Finding("error", "account", message, "ask your cluster's staff for one")
    elif is_missing(site):
        message = f"{site.id} wants an account, and names no default: {yours}"
        cure = f"set resources.account in each run.yaml{rules.known_by}"
        yield Finding("warning", "account", message, cure)
    elif accounts is None:
        yield Finding("ok", "account", f"{used or 'none'}; {yours}")
    else:
        default = f"{accounts[0]}, Slurm's own default" if accounts else "none"
        yield Finding("ok", "account", used or default)


def one_of(accounts: Sequence[str] | None, suffix: str) -> str | None:
    """The account that a run might name: the user's first one with the suffix of the target."""
    named = accounts or ()
    return next((one for one in named if one.endswith(suffix)), next(iter(named), None))


def is_missing(site: SiteConfig) -> bool:
    """Whether each run must name an account of its own."""
    return site.scheduler.account.required and site.scheduler.account.default is None
