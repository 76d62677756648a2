"""`train --print-config`: the config that a run would have, and where each value comes from."""

from __future__ import annotations

from mnistcli.commands.train.prepare import load_request
from mnistcli.commands.train.run_plan import Request
from mnistcli.config.serialization import annotate_config, list_value_paths
from mnistcli.config.validation_errors import format_path
from mnistcli.errors import UsageError, make_printable
from mnistcli.output.config_results import ConfigResult
from mnistcli.output.terminal import Output


def print_resolved(request: Request) -> None:
    """Print the resolved config as YAML, or as JSON where that was asked for.

    Raises:
        ConfigError: there is no such config.
        UsageError: the run is a resumed one, whose config is in its checkpoint.
    """
    if request.resume is not None:
        hint = f"see the config there: mnistcli summary {request.resume} --json"
        raise UsageError("--print-config", "a resumed run has its checkpoint's config", hint)
    as_json = request.json or request.jsonl
    console = Output(quiet=request.quiet or as_json)
    loaded = load_request(request, console)
    if not as_json:
        text = annotate_config(loaded.config, loaded.origins)
        console.print_line(text.removesuffix("\n"))
        return
    origins = {
        format_path(path): make_printable(loaded.origins.find(path))
        for path in list_value_paths(loaded.config)
    }
    console.print_json(ConfigResult(config=loaded.config, origins=origins))
