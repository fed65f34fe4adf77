"""`ae-search doctor`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.options import index_option
from ae_search.cli.terminal import say, say_json
from ae_search.errors import ConfigurationError


@with_connection
def doctor(
    connection: Connection,
    index: Annotated[str | None, index_option("Index to check too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out what is wrong with a model server or its index, and what to do about it.

    The exit code is 1 if anything is wrong.
    """
    from ae_search.diagnosis import Finding, Verdict, diagnose

    if connection.server is None or connection.model is not None:
        raise ConfigurationError("`ae-search doctor` looks at a server: give --server HOST:PORT.")
    findings: list[Finding] = []
    for finding in diagnose(
        connection.server,
        connection.model_name,
        access=connection.access(),
        version=connection.model_version,
        label=connection.model_label,
        index=index,
        timeout_s=connection.timeout,
    ):
        findings.append(finding)
        if not as_json:
            say(f"{finding.verdict:8} {finding.check:16} {finding.told}")
            if finding.advice:
                say(f"{'':25} -> {finding.advice}")
    if as_json:
        say_json(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise typer.Exit(1)
