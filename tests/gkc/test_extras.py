from __future__ import annotations

import sys

import pytest

from gkc.extras import extra_needed


@pytest.mark.parametrize("module", ["numpy", "prometheus_client", "tensorboardX"])
def test_a_missing_package_of_an_extra_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as ended, extra_needed("some", "gkc-some", make="make some"):
        __import__(module)
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told == (
        f"gkc-some: {module} is not installed; install the extra: make some, "
        "or pip install 'gkc[some]'\n"
    )


@pytest.mark.parametrize("module", ["no_such_module", "gkc.no_such_module"])
def test_another_missing_module_is_a_fault_and_shows_where(module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=module), extra_needed("some", "gkc-some"):
        __import__(module)


def test_what_is_there_runs() -> None:
    done = []
    with extra_needed("some", "gkc-some"):
        done.append(1)
    assert done
