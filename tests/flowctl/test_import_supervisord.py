"""supervisord.conf becomes flows that are restarted and stopped as supervisord would."""

from __future__ import annotations

import configparser
import platform

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_support import environment_of, forgotten

from flow_operator.errors import InvalidError
from flow_operator.flowctl.importing import ini
from flow_operator.flowctl.importing.source import Source
from flow_operator.flowctl.importing.supervisord import read

PROGRAM = "[program:web]\ncommand=/bin/cat\ndirectory=/srv\n"


def test_the_manual_s_example_program(imported):
    """Every key that [program:x] has in supervisor's manual, with values of our own."""
    text = """\
[supervisord]
environment=COMMON="a,b", OWN=lost
[program:cat]
command=/bin/cat -n "a b" %(here)s/%(program_name)s ; a comment
    --last
process_name=%(program_name)s-%(process_num)02d
numprocs=2
numprocs_start=3
directory=work/dir
umask=022
autostart=false
autorestart=unexpected
startsecs=10
startretries=5
exitcodes=0,2
stopsignal=TERM
stopwaitsecs=20
user=chrism
redirect_stderr=true
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=9
environment=OWN="1 %(process_num)d",OTHER='x'
"""
    done = imported("supervisord.conf", text)
    assert list(done.flows) == ["cat-03", "cat-04"]
    spec = done.flows["cat-04"]["spec"]
    step = spec["steps"][0]
    here = step["workingDir"].removesuffix("/work/dir")
    assert step == {
        "name": "main",
        "command": ["/bin/cat", "-n", "a b", f"{here}/cat", "--last"],
        "workingDir": f"{here}/work/dir",
        "env": [
            {"name": "COMMON", "value": "a,b"},
            {"name": "OWN", "value": "1 4"},
            {"name": "OTHER", "value": "x"},
        ],
        "user": "chrism",
        "umask": "022",
        "successExitCodes": [0, 2],
    }
    assert spec["state"] == "stopped"
    assert spec["restart"] == {"policy": "OnFailure", "resetAfter": "10s", "maxRestarts": 5}
    assert spec["stop"] == {"timeout": "20s"}
    assert spec["logs"] == {"maxSize": "1Mi", "maxFiles": 10}
    assert [line for line, _ in done.remarks] == [18]
    assert done.said("--allow-users chrism")


KEYS = """\
process_name=other
numprocs=2
numprocs_start=1
priority=1
autostart=false
startsecs=5
startsecs=0
startretries=9
autorestart=true
autorestart=false
exitcodes=0,3
stopsignal=INT
stopsignal=WINCH
stopwaitsecs=3
stopasgroup=false
killasgroup=false
user=nobody
redirect_stderr=maybe
stdout_logfile=/var/log/x
stdout_logfile=NONE
stdout_logfile_maxbytes=1MB
stdout_logfile_maxbytes=0
stdout_logfile_backups=2
stdout_capture_maxbytes=1MB
stdout_events_enabled=true
stdout_syslog=true
stderr_logfile=/var/log/x
stderr_logfile=off
stderr_logfile_maxbytes=1MB
stderr_logfile_backups=2
stderr_capture_maxbytes=1MB
stderr_events_enabled=true
stderr_syslog=true
environment=A="1"
directory=/tmp
umask=077
serverurl=AUTO
nonsense=1
autostart=perhaps
startsecs=soon
exitcodes=300
umask=9
user=a b"""


def test_every_key_of_a_program_is_carried_over_or_remarked(imported):
    """Also those that are unknown or make no sense."""
    base = "[program:web]\ncommand=/bin/cat\nprocess_name=w%(process_num)d\n@@\n"
    assert forgotten(imported, "supervisord.conf", base, KEYS) == []


DAEMON = """\
logfile=/tmp/l
logfile_maxbytes=1
logfile_backups=1
loglevel=debug
pidfile=/tmp/p
umask=077
nodaemon=true
silent=true
minfds=9
minprocs=9
nocleanup=true
childlogdir=/tmp
user=nobody
directory=/tmp
strip_ansi=true
environment=A="1"
identifier=x"""


def test_every_key_of_the_daemon_is_carried_over_or_remarked(imported):
    """What programs inherit is theirs."""
    base = "[program:web]\ncommand=/bin/cat\n[supervisord]\n@@\n"
    assert forgotten(imported, "supervisord.conf", base, DAEMON) == []


@pytest.mark.parametrize(
    "section",
    [
        *("unix_http_server", "inet_http_server", "supervisorctl", "rpcinterface:supervisor"),
        *("eventlistener:x", "fcgi-program:x", "ctlplugin:x", "group:x", "nonsense"),
    ],
)
def test_every_other_section_is_remarked(imported, section):
    """Once, at its header, whatever is in it."""
    done = imported("x.conf", f"{PROGRAM}[{section}]\nprograms=web\npriority=1\n")
    assert 4 in [line for line, _ in done.remarks]


def test_programs_of_a_group_have_it_as_a_label(imported):
    """There is nothing else that a group would do here."""
    done = imported("x.conf", f"{PROGRAM}[group:site]\nprograms = web\npriority=5\n")
    assert done.flows["web"]["metadata"]["labels"] == {"group": "site"}
    assert done.said("priority")


@pytest.mark.parametrize(
    ("keys", "restart"),
    [
        ("", {"policy": "OnFailure", "resetAfter": "1s", "maxRestarts": 3}),
        ("exitcodes=", {"resetAfter": "1s", "maxRestarts": 3}),
        ("autorestart=TRUE", {"resetAfter": "1s", "maxRestarts": 3}),
        ("autorestart=0", {"policy": "Never", "resetAfter": "1s", "maxRestarts": 3}),
        ("startsecs=0", {"policy": "OnFailure"}),
    ],
)
def test_restarts(imported, keys, restart):
    """What ended within startsecs is tried startretries times; that is maxRestarts, resetAfter."""
    assert imported("x.conf", PROGRAM + keys + "\n").spec["restart"] == restart


def test_processes_that_differ_in_nothing_are_replicas(imported):
    """With a remark; a number in the command makes flows of their own."""
    alike = PROGRAM + "numprocs=3\nprocess_name=p%(process_num)s\n"
    done = imported("x.conf", alike)
    assert done.flows["web"]["spec"]["replicas"] == 3
    assert done.said("FLOW_REPLICA")
    done = imported("x.conf", alike.replace("cat", "cat %(process_num)d"))
    assert list(done.flows) == ["p0", "p1", "p2"]


def test_expansions(imported):
    """%(ENV_X)s is fixed, with a remark; the program's own variables are known."""
    command = "a %(ENV_HOME_OF)s %(ENV_MINE)s %(host_node_name)s 100%% %(numprocs)d"
    text = f'[program:web]\ncommand={command}\nenvironment=MINE="1"\n'
    done = imported("x.conf", text, env={"HOME_OF": "/h"})
    assert done.step["command"] == ["a", "/h", "1", platform.node(), "100%", "1"]
    assert done.said("%(ENV_HOME_OF)s is fixed")
    assert not done.said("%(ENV_MINE)s")


def test_included_files_are_read_with_their_own_lines(imported, tmp_path):
    """Patterns start from the file; %(here)s is the included file's folder."""
    beside = {
        "conf.d/a.conf": "[program:a]\ncommand=%(here)s/a\npriority=2\n",
        "conf.d/b.conf": "[program:b]\ncommand=b\n[program:web]\numask=077\n",
    }
    text = f"{PROGRAM}[include]\nfiles = conf.d/*.conf none.conf\n"
    done = imported("x.conf", text, beside=beside)
    assert list(done.flows) == ["web", "a", "b"]
    assert done.flows["a"]["spec"]["steps"][0]["command"] == [f"{tmp_path}/conf.d/a"]
    assert done.flows["web"]["spec"]["steps"][0]["umask"] == "077"
    assert f"{tmp_path}/conf.d/a.conf:3: [program:a] priority" in done.stderr
    assert "x.conf:5: [include] files: there is no file none.conf" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command=x\n", "x.conf:1:1: stands before the first [section]"),
        ("[program:a]\nnonsense\n", "x.conf:2:1: 'nonsense' is neither [section] nor key=value"),
        ("[program:a]\n\nautostart=1\n", "x.conf:1:1: [program:a] has no command"),
        ("[program:a]\ncommand='x\n", "x.conf:2:1: the command cannot be split"),
        ("[program:a]\ncommand= ; x\n", "x.conf:2:1: the command is empty"),
        ("[program:a]\ncommand=date +%s\n", "x.conf:2:1: a % that is meant as one"),
        ("[program:a]\ncommand=%(nope)s\n", "x.conf:2:1: %(nope)s is not known"),
        ("[program:a]\ncommand=%(ENV_NOPE_X)s\n", "x.conf:2:1: %(ENV_NOPE_X)s: set the variable"),
        ("[program:a]\ncommand=%(program_name)d\n", "x.conf:2:1: %(program_name)d is no number"),
        ("[program:a]\ncommand=a\nnumprocs=x\n", "x.conf:3:1: numprocs must be a number"),
        ("[program:a]\ncommand=a\nnumprocs=1001\n", "x.conf:3:1: more than 1000"),
        ("[program:a]\ncommand=a\nenvironment=A\n", "x.conf:3:1: environment must be"),
        ('[program:a]\ncommand=a\nenvironment=A="\n', "x.conf:3:1: environment cannot be read"),
        ("[group:g]\nprograms=none\n", "x.conf:2:1: there is no [program:none]"),
    ],
)
def test_what_supervisord_would_refuse_is_refused(imported, text, said):
    """With file, line and column."""
    assert said in imported("x.conf", text, "--from", "supervisord", expect=2).stderr


LINES = st.sampled_from(
    [
        *(
            "[a]",
            "[b:c]",
            "[DEFAULT]",
            " [a]",
            "[",
            "[]",
            "key=v",
            "Key : v ; c",
            "key = ",
            "k",
            "=",
        ),
        *(
            "  more",
            "   even = more",
            "# c",
            " ; c",
            "",
            "  ",
            "a=b#c",
            "a=b #c",
            "k=x ;y",
            ":v",
            "\t t",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_files_are_read_as_python_s_parser_reads_them(lines):
    """Supervisord uses that, with these arguments; ours knows lines, too."""
    text = "\n".join(lines)
    theirs = configparser.RawConfigParser(
        inline_comment_prefixes=(";", "#"), strict=False, default_section="\0none"
    )
    sections: dict[str, ini.IniSection] = {}
    try:
        theirs.read_string(text)
    except configparser.Error:
        with pytest.raises(InvalidError):
            ini.parse(Source(text, "f", None), sections)
        return
    ini.parse(Source(text, "f", None), sections)
    assert {
        name: {key: entry.value for key, entry in section.entries.items()}
        for name, section in sections.items()
    } == {name: dict(theirs[name]) for name in theirs.sections()}


def test_defaults_are_in_every_section(tmp_path):
    """As in Python's parser."""
    source = Source("[DEFAULT]\nautostart=false\n" + PROGRAM, "f", tmp_path)
    [draft] = read(source)
    assert draft.spec["state"] == "stopped"


def test_variables_of_the_daemon_are_inherited(imported):
    """A program's own ones win."""
    text = PROGRAM + 'environment=A="mine"\n[supervisord]\nenvironment=A=1,B=2\n'
    assert environment_of(imported("x.conf", text).flows["web"]) == {"A": "mine", "B": "2"}
