"""The account that a run would use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from hpcrun.site import SiteConfig
from hpcrun.workflow.finding import Finding

ASSOCIATIONS = "`sacctmgr show associations user=$USER` lists yours"


class Person(NamedTuple):
    """Who asks: accounts, the default one first, None where nobody tells; groups; the account that
    a run which names none would use."""

    accounts: Sequence[str] | None
    groups: Collection[str]
    account: str | None


def account(site: SiteConfig, person: Person, config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the account that a run would use is one of the user's."""
    rules, accounts, used = site.scheduler.account, person.accounts, person.account
    listed = f"`{rules.list_command}` lists yours" if rules.list_command else ASSOCIATIONS
    if accounts is None:
        yield Finding("ok", "account", f"{used or 'none'}; this cluster tells nobody's accounts")
        return
    yours = f"yours are {', '.join(accounts)}" if accounts else "you have none"
    enforced = "associations" in config.get("AccountingStorageEnforce", "")
    if used is not None and used not in accounts:
        key = "scheduler.account.default or resources.account"
        message = f"{used} is none of your accounts: {yours}"
        yield Finding("error", "account", message, f"mend {key}; {listed}")
    elif not accounts and enforced:
        message = "you have no account, and this Slurm takes no job without one"
        yield Finding("error", "account", message, "ask your cluster's staff for one")
    elif is_missing(site):
        message = f"{site.id} wants an account, and names no default: {yours}"
        yield Finding("warning", "account", message, "set resources.account in each run.yaml")
    else:
        default = f"{accounts[0]}, Slurm's own default" if accounts else "none"
        yield Finding("ok", "account", used or default)


def is_missing(site: SiteConfig) -> bool:
    """Whether each run must name an account of its own."""
    return site.scheduler.account.required and site.scheduler.account.default is None
