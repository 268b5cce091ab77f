"""systemd's units become flows."""

from __future__ import annotations

import platform
import subprocess

import pytest
from import_support import environment_of, forgotten

from flow_operator.flowctl.importing.source import Place
from flow_operator.flowctl.importing.unit_words import INFINITY, size, time, unescape, words

UNIT = "[Service]\nExecStart=/bin/x\n"


def service(lines, exec_start="/bin/x"):
    return f"[Service]\nExecStart={exec_start}\n{lines}\n"


def test_a_usual_unit(imported):
    """The shape of systemd.service(5)'s examples, with values of our own."""
    text = """\
# comment
[Unit]
Description=Some %p on 100%%
Documentation=man:foo(8)

[Service]
Type=exec
User=daemon
UMask=0027
WorkingDirectory=/srv/foo
Environment="ONE=one" 'TWO=two two' THREE=a\\x20b
ExecStart=/usr/sbin/foo --bar "b c" \\
; a comment within
    last
Restart=on-failure
RestartSec=1min 500ms
StartLimitIntervalSec=0
TimeoutStopSec=20
KillSignal=SIGINT
LimitNOFILE=65536
LimitCORE=0
MemoryMax=1.5G
MemoryMax=512M
CPUQuota=20%
TasksMax=64
SuccessExitStatus=1 143

[Install]
WantedBy=multi-user.target
"""
    done = imported("foo.service", text)
    assert done.flows["foo"]["metadata"]["annotations"] == {"documentation": ["man:foo(8)"]}
    assert done.spec["description"] == "Some foo on 100%"
    assert done.step == {
        "name": "main",
        "command": ["/usr/sbin/foo", "--bar", "b c", "last"],
        "workingDir": "/srv/foo",
        "env": [
            {"name": "ONE", "value": "one"},
            {"name": "TWO", "value": "two two"},
            {"name": "THREE", "value": "a b"},
        ],
        "user": "daemon",
        "umask": "027",
        "resources": {
            "limits": {"openFiles": 65536, "memory": "512Mi", "cpu": "200m", "pids": 64},
            "rlimits": {"core": "0"},
        },
        "successExitCodes": [0, 1, 143],
    }
    assert done.spec["restart"] == {
        "policy": "OnFailure",
        "backoff": {"initial": "60.5s", "factor": 1, "max": "60.5s", "jitter": 0},
    }
    assert done.spec["stop"] == {"signal": "SIGINT", "timeout": "20s"}
    assert [text for _, text in done.remarks] == [
        "[Service] User: flowd must be root and be started with --allow-users daemon"
    ]


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("/bin/echo ${ONE} ${TWO} x${TWO}y", 'exec /bin/echo "${ONE}" "${TWO}" "x${TWO}y"\n'),
        ("/bin/echo $ONE $TWO", "set -f\nexec /bin/echo $ONE $TWO\n"),
        ("""/bin/echo '${A}"`' 'q r'""", 'exec /bin/echo "${A}\\"\\`" \'q r\'\n'),
        ("/bin/echo a$B", 'exec /bin/echo "a\\$B"\n'),
        ("/bin/echo $$A", 'exec /bin/echo "\\$A"\n'),
    ],
)
def test_variables_are_replaced_when_the_step_starts(imported, line, script):
    """By sh: ${A} is one word, $A as many as it has, and a $ in a word is one."""
    done = imported("a.service", service("", line))
    assert done.step["script"] == script
    assert done.remarks == []


def test_the_script_gives_the_arguments_that_systemd_would(imported):
    """The example of systemd.service(5): one variable with blanks, one of several words."""
    line = "/bin/printf '<%%s>' ${ONE} $TWO ${TWO} a${ONE}b * $$ONE"
    lines = "Environment=\"ONE='one'\" \"TWO='two two' too\" X=*"
    done = imported("a.service", service(lines, line))
    env = environment_of(done.flows["a"])
    made = subprocess.run(
        ["/bin/sh", "-c", done.step["script"]], env=env, capture_output=True, text=True, check=True
    )
    # systemd takes the quotes within $TWO as quotes; sh does not. That is told in docs/import.md.
    assert made.stdout == "<'one'><'two><two'><too><'two two' too><a'one'b><*><$ONE>"


def test_prefixes(imported):
    """: replaces nothing, @ has a name that is dropped, the others are remarked."""
    assert imported("a.service", service("", ":/bin/echo $A")).step["command"][1] == "$A"
    done = imported("a.service", service("", "@/bin/sleep snore 5"))
    assert done.step["command"] == ["/bin/sleep", "5"]
    assert done.said("the name of @")
    for prefix in ("-", "+", "!", "!!", "|"):
        done = imported("a.service", service("", f"{prefix}/bin/x"))
        assert done.step["command"] == ["/bin/x"]
        assert [line for line, _ in done.remarks] == [2]


def test_what_comes_before_is_run_by_the_script(imported):
    """ExecStartPre, and all but the last ExecStart of a oneshot; - is forgiven."""
    lines = "ExecStartPre=/bin/a 'b c'\nExecStartPre=-/bin/d ; /bin/e \\;\nType=oneshot"
    done = imported("a.service", service(lines + "\nExecStart=/bin/last", "/bin/x"))
    assert done.step["script"].splitlines() == [
        "/bin/a 'b c' || exit",
        "/bin/d || :",
        "/bin/e ';' || exit",
        "/bin/x || exit",
        "exec /bin/last",
    ]


def test_an_empty_line_resets_a_list(imported):
    """Of ExecStart and Environment as of everything else."""
    text = service("Environment=A=1\nEnvironment=\nEnvironment=B=2\nExecStart=\nExecStart=/bin/y")
    done = imported("a.service", text + "ExecReload=/x\nExecReload=\n")
    assert done.step["command"] == ["/bin/y"]
    assert environment_of(done.flows["a"]) == {"B": "2"}
    assert done.remarks == []


def test_drop_ins_are_read(imported, tmp_path):
    """Sorted by their names, also those of the template, each with its own lines."""
    beside = {
        "a@.service.d/20.conf": "[Service]\nUMask=077\nNice=3\n",
        "a@1.service.d/10.conf": "[Service]\nUMask=022\nEnvironment=A=%i\n",
    }
    done = imported("a@1.service", UNIT, beside=beside)
    assert done.step["umask"] == "077"
    assert environment_of(done.flows["a-1"]) == {"A": "1"}
    assert f"{tmp_path}/a@.service.d/20.conf:3: [Service] Nice" in done.stderr


def test_an_instance_of_a_template_needs_no_file(imported, tmp_path):
    """As for systemd; a template alone needs a DefaultInstance."""
    imported("web@.service", service("", "/bin/web %i %I %p %n"), expect=2)
    done = imported("other.service", UNIT, str(tmp_path / "web@a-b.service"))
    command = done.flows["web-a-b"]["spec"]["steps"][0]["command"]
    assert command == ["/bin/web", "a-b", "a/b", "web", "web@a-b.service"]
    text = UNIT + "[Install]\nDefaultInstance=one\n"
    assert list(imported("web@.service", text).flows) == ["web-one"]
    refused = imported("web@.service", UNIT, expect=2)
    assert "web@.service:1:1: is a template: name an instance as systemd does, web@X.service" in (
        refused.stderr
    )


def test_specifiers_of_the_machine_are_fixed(imported):
    """With a remark; those that nobody knows stand as they were."""
    done = imported("a.service", service("", "/bin/x %H %t %S %h %u %T %% %Z"))
    host = platform.node()
    expected = [host, "/run", "/var/lib", "/root", "root", "/tmp", "%", "%Z"]
    assert done.step["command"][1:] == expected
    assert done.said("%H is fixed")
    assert done.said("%Z is not known")


def test_units_of_a_user_start_at_home(imported, tmp_path):
    """And their specifiers are those of the user's manager."""
    text = service("", "/bin/x %h %t %S")
    done = imported(
        "systemd/user/a.service", text, env={"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    )
    assert done.step["command"][1:] == ["/home/me", "/run/user/7", "/home/me/.local/state"]
    assert done.step["workingDir"] == "/home/me"
    assert imported("a.service", text).step["workingDir"] == "/"


def test_units_that_come_after_another_depend_on_it(imported, tmp_path):
    """If both are imported; a oneshot must have completed."""
    (tmp_path / "setup.service").write_text(service("Type=oneshot"))
    (tmp_path / "db.service").write_text(UNIT + "[Install]\nAlias=sql.service\n")
    unit = "[Unit]\nAfter=setup.service sql.service\nAfter=network.target none.service\n"
    done = imported(
        "a.service", unit + UNIT, *(str(tmp_path / f"{n}.service") for n in ("setup", "db"))
    )
    assert done.flows["a"]["spec"]["dependsOn"] == [
        {"name": "setup", "condition": "Completed"},
        {"name": "db"},
    ]
    assert done.said("network.target is no flow")
    assert done.said("'none.service' is not among what is imported")


@pytest.mark.parametrize(
    ("lines", "restart"),
    [
        ("", {"policy": "Never"}),
        ("Restart=always", {"policy": "Always", "resetAfter": "1.9s", "maxRestarts": 4}),
        ("Restart=always\nRestartSec=3", {"policy": "Always"}),
        (
            "Restart=always\nStartLimitBurst=2\nStartLimitInterval=1min",
            {"policy": "Always", "resetAfter": "29.9s", "maxRestarts": 1},
        ),
        (
            "Restart=always\nStartLimitIntervalSec=infinity",
            {"policy": "Always", "resetAfter": "3650d", "maxRestarts": 4},
        ),
        ("Restart=on-success", {"policy": "Always", "resetAfter": "1.9s", "maxRestarts": 4}),
    ],
)
def test_restarts(imported, lines, restart):
    """What runs long enough that the start limit is never reached counts as healthy."""
    made = dict(imported("a.service", service(lines)).spec["restart"])
    made.pop("backoff", None)
    assert made == restart


def test_growing_delays(imported):
    """RestartSteps from RestartSec to RestartMaxDelaySec."""
    lines = "Restart=always\nRestartSec=1\nRestartSteps=3\nRestartMaxDelaySec=64"
    backoff = imported("a.service", service(lines)).spec["restart"]["backoff"]
    assert backoff == {"initial": "1s", "factor": 4.0, "max": "64s", "jitter": 0}


def test_environment_files(imported, tmp_path):
    """Read at each start; what a file sets wins over Environment, as systemd has it."""
    file = tmp_path / "vars"
    file.write_text("A=file\nB=2\n")
    lines = f"Environment=A=unit C=3\nEnvironmentFile={file}\nEnvironmentFile=-/none/there"
    done = imported("a.service", service(lines))
    assert environment_of(done.flows["a"]) == {"C": "3"}
    assert done.step["envFrom"] == [{"file": str(file)}]
    assert done.said("A stands in", "systemd has win")
    assert done.said("must exist here, in spite of the -")
    assert done.said("/none/there cannot be read")


@pytest.mark.parametrize("kind", ["forking", "notify", "notify-reload", "dbus", "nonsense"])
def test_types_that_are_not_understood_are_remarked(imported, kind):
    """forking is not even started: it would be restarted and ended again and again."""
    done = imported("a.service", service(f"Type={kind}"))
    assert done.said("[Service] Type")
    assert done.spec.get("state") == ("stopped" if kind == "forking" else None)


KEYS = {
    "Unit": """\
Description Documentation SourcePath Requires Requisite Wants BindsTo BindTo Upholds Conflicts
Before After OnSuccess OnFailure PropagatesReloadTo PropagateReloadTo ReloadPropagatedFrom
PropagateReloadFrom PropagatesStopTo StopPropagatedFrom PartOf JoinsNamespaceOf
RequiresOverridable RequisiteOverridable RequiresMountsFor StopWhenUnneeded RefuseManualStart
RefuseManualStop AllowIsolate DefaultDependencies OnSuccessJobMode OnFailureJobMode
OnFailureIsolate IgnoreOnIsolate JobTimeoutSec JobRunningTimeoutSec JobTimeoutAction
JobTimeoutRebootArgument StartLimitAction FailureAction SuccessAction FailureActionExitStatus
SuccessActionExitStatus RebootArgument CollectMode
ConditionPathExists ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsSymbolicLink
ConditionPathIsMountPoint ConditionPathIsReadWrite ConditionPathIsEncrypted
ConditionDirectoryNotEmpty ConditionFileNotEmpty ConditionFileIsExecutable ConditionNeedsUpdate
ConditionFirstBoot ConditionArchitecture ConditionFirmware ConditionVirtualization ConditionHost
ConditionKernelCommandLine ConditionKernelVersion ConditionCredential ConditionSecurity
ConditionCapability ConditionACPower ConditionMemory ConditionCPUFeature ConditionCPUs
ConditionEnvironment ConditionUser ConditionGroup ConditionControlGroupController
ConditionOSRelease ConditionMemoryPressure ConditionCPUPressure ConditionIOPressure
AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsSymbolicLink
AssertPathIsMountPoint AssertPathIsReadWrite AssertPathIsEncrypted AssertDirectoryNotEmpty
AssertFileNotEmpty AssertFileIsExecutable AssertNeedsUpdate AssertFirstBoot AssertArchitecture
AssertVirtualization AssertHost AssertKernelCommandLine AssertKernelVersion AssertCredential
AssertSecurity AssertCapability AssertACPower AssertMemory AssertCPUFeature AssertCPUs
AssertEnvironment AssertUser AssertGroup AssertControlGroupController AssertOSRelease
AssertMemoryPressure AssertCPUPressure AssertIOPressure""",
    "Service": """\
PIDFile ExecCondition ExecStartPre ExecStartPost ExecReload ExecStop ExecStopPost TimeoutSec
TimeoutStartSec TimeoutStopSec TimeoutAbortSec TimeoutStartFailureMode TimeoutStopFailureMode
RuntimeMaxSec RuntimeRandomizedExtraSec WatchdogSec StartLimitAction FailureAction RebootArgument
Type ExitType Restart PermissionsStartOnly RootDirectoryStartOnly RemainAfterExit GuessMainPID
RestartPreventExitStatus RestartForceExitStatus SuccessExitStatus NonBlocking BusName
FileDescriptorStoreMax NotifyAccess Sockets USBFunctionDescriptors USBFunctionStrings OOMPolicy
WorkingDirectory RootDirectory RootImage RootImageOptions RootHash RootHashSignature RootVerity
ExtensionDirectories ExtensionImages MountImages User Group SupplementaryGroups Nice
OOMScoreAdjust CoredumpFilter IOSchedulingClass IOSchedulingPriority CPUSchedulingPolicy
CPUSchedulingPriority CPUSchedulingResetOnFork CPUAffinity NUMAPolicy NUMAMask UMask Environment
EnvironmentFile UnsetEnvironment DynamicUser RemoveIPC StandardInput StandardOutput StandardError
StandardInputText StandardInputData TTYPath TTYReset TTYVHangup TTYVTDisallocate TTYRows
TTYColumns SyslogIdentifier SyslogFacility SyslogLevel SyslogLevelPrefix LogLevelMax
LogRateLimitIntervalSec LogRateLimitBurst LogExtraFields SecureBits CapabilityBoundingSet
AmbientCapabilities TimerSlackNSec NoNewPrivileges KeyringMode ProtectProc ProcSubset
SystemCallFilter SystemCallArchitectures SystemCallErrorNumber SystemCallLog
MemoryDenyWriteExecute RestrictNamespaces RestrictRealtime RestrictSUIDSGID
RestrictAddressFamilies LockPersonality RestrictFileSystems LimitCPU LimitFSIZE LimitDATA
LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS
LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME ReadWriteDirectories
ReadOnlyDirectories InaccessibleDirectories ReadWritePaths ReadOnlyPaths InaccessiblePaths
ExecPaths NoExecPaths ExecSearchPath BindPaths BindReadOnlyPaths TemporaryFileSystem PrivateTmp
PrivateDevices ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock
ProtectControlGroups NetworkNamespacePath IPCNamespacePath LogNamespace PrivateNetwork
PrivateUsers PrivateMounts PrivateIPC ProtectSystem ProtectHome MountFlags MountAPIVFS
Personality RuntimeDirectoryPreserve RuntimeDirectoryMode RuntimeDirectory StateDirectoryMode
StateDirectory CacheDirectoryMode CacheDirectory LogsDirectoryMode LogsDirectory
ConfigurationDirectoryMode ConfigurationDirectory SetCredential SetCredentialEncrypted
LoadCredential LoadCredentialEncrypted TimeoutCleanSec PAMName IgnoreSIGPIPE UtmpIdentifier
UtmpMode SELinuxContext AppArmorProfile SmackProcessLabel ProtectHostname Slice AllowedCPUs
StartupAllowedCPUs AllowedMemoryNodes StartupAllowedMemoryNodes CPUAccounting CPUWeight
StartupCPUWeight CPUShares StartupCPUShares CPUQuota CPUQuotaPeriodSec MemoryAccounting MemoryMin
DefaultMemoryMin DefaultMemoryLow MemoryLow MemoryHigh MemoryMax MemorySwapMax MemoryLimit
DeviceAllow DevicePolicy IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax
IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec BlockIOAccounting
BlockIOWeight StartupBlockIOWeight BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth
TasksAccounting TasksMax Delegate DisableControllers IPAccounting IPAddressAllow IPAddressDeny
IPIngressFilterPath IPEgressFilterPath ManagedOOMSwap ManagedOOMMemoryPressure
ManagedOOMMemoryPressureLimit ManagedOOMPreference BPFProgram SocketBindAllow SocketBindDeny
RestrictNetworkInterfaces SendSIGKILL SendSIGHUP KillMode KillSignal RestartKillSignal
FinalKillSignal WatchdogSignal Nonsense""",
    "Install": "Alias RequiredBy UpheldBy Also Nonsense",
}

VALUES = {
    "Type": "forking",
    "Restart": "always",
    "KillSignal": "SIGINT",
    "WorkingDirectory": "/tmp",
    "UMask": "077",
    "Environment": "A=1",
    "EnvironmentFile": "/none",
    "CPUQuota": "20%",
}


@pytest.mark.parametrize("section", list(KEYS))
def test_every_key_of_systemd_is_carried_over_or_remarked(imported, section):
    """The keys of `systemd --dump-configuration-items` (252), but what says nothing of a flow."""
    base = f"[Service]\nExecStart=/bin/x\nRestart=on-failure\n[{section}]\n@@\n"
    lines = "\n".join(f"{key}={VALUES.get(key, '17')}" for key in KEYS[section].split())
    assert forgotten(imported, "a.service", base, lines) == []


@pytest.mark.parametrize(
    "line",
    [
        *("RestartSec=x", "TimeoutStopSec=x", "LimitNOFILE=infinity", "LimitNOFILE=1:2"),
        *("LimitNOFILE=1", "LimitCPU=infinity", "MemoryMax=10%", "CPUQuota=x", "UMask=9"),
        *("WorkingDirectory=x", "WorkingDirectory=~", "WorkingDirectory=-/x", "User=a b"),
        *("KillSignal=SIGWINCH", "KillMode=none", "KillMode=mixed", "Environment=A"),
        *("EnvironmentFile=x", "Restart=x", "SuccessExitStatus=TEMPFAIL", "no equals sign"),
        *("StartLimitBurst=x", "RestartSteps=x", "LimitSTACK=1:infinity"),
    ],
)
def test_values_that_a_flow_cannot_have_are_remarked(imported, line):
    """At their line."""
    assert 3 in [at for at, _ in imported("a.service", service(line)).remarks]


def test_other_sections_are_remarked_but_those_of_others(imported):
    """X- is what systemd passes over by its own rules."""
    done = imported("a.service", UNIT + "[Timer]\nOnBootSec=1\n[X-Mine]\na=b\n")
    assert [line for line, _ in done.remarks] == [4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1:1: there is no [Service] section"),
        ("[Unit]\nDescription=x\n", ":1:1: there is no [Service] section"),
        ("[Service]\nType=oneshot\n", ":1:1: [Service] has no ExecStart"),
        ("[Service]\nExecStart=/bin/x 'a\n", ":2:1: a ' is not closed"),
        ("[Service]\nExecStart=-\nExecStart=@\n", ":1:1: [Service] has no ExecStart"),
        ("[Service]\nExecStart='' x\n", ":2:1: ExecStart names no program"),
    ],
)
def test_what_is_no_service_is_refused(imported, text, said):
    """With file, line and column."""
    assert f"a.service{said}" in imported("a.service", text, expect=2).stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b", ["a", "b"]),
        ("'a b' \"c d\"e", ["a b", "c de"]),
        ("''", [""]),
        (r"a\x20b \s \t \\ \q \101 \u00e9", ["a b", " ", "\t", "\\", "\\q", "A", "é"]),
        (r"'\'' \x00 \ud800", ["'", "\\x00", "\\ud800"]),
        ("a\\", ["a\\"]),
    ],
)
def test_words(text, expected):
    """By systemd.syntax(7)."""
    assert words(text, Place("f", 1)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("5", 5), ("1min 30s", 90), ("2h", 7200), ("1.5s", 1.5), ("300ms", 0.3), ("1M", 2629800)),
        *(("infinity", INFINITY), ("x", None), ("", None), ("5 parsecs", None), ("-1", None)),
    ],
)
def test_times(text, expected):
    """By systemd.time(7)."""
    assert time(text) == expected


def test_sizes_and_names():
    """K, M, G to the base 1024; a dash is a slash."""
    assert [size(text) for text in ("5", "1K", "2G", "infinity", "5%", "x")] == [
        *(5, 1024, 2**31, INFINITY, None, None)
    ]
    assert unescape(r"dev-sda\x2d1") == "dev/sda-1"
