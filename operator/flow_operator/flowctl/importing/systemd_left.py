"""What a unit says that a flow does not have, and what to do about it."""

from __future__ import annotations

_BOX = (
    "is not carried over: flows are not isolated; put it into flowd's own unit, or wrap the command"
)
_WEIGHT = "is not carried over: of resources only CPUQuota, MemoryMax, TasksMax and Limit* are"
_LOG = "is not carried over: what it prints is in DATA/logs and told by flowctl logs"
_STOPS = "is not carried over: flows stop by themselves; dependsOn only orders their start"
_ACTION = "is not carried over: nothing happens when a flow fails, but its status tells"
_NOTIFY = "is not carried over: sd_notify is not spoken; probes tell whether it is ready and alive"
_DIRECTORY = "is not made: make it yourself, or use the flow's own directory, $FLOW_DATA"
_SOCKET = "is not carried over: nothing listens for a flow; have the program listen by itself"
_CHECK = "is not checked: have a script test for it and exec the command"
_NICE = "is not carried over: begin the command with nice, ionice, chrt or taskset"
_BOOT = "is not carried over: it is about the machine's boot, and a flow runs while flowd does"

UNIT = {
    **dict.fromkeys(
        ("Requires", "Requisite", "BindsTo", "BindTo", "PartOf", "Upholds", "Conflicts"), _STOPS
    ),
    **dict.fromkeys(("RequiresOverridable", "RequisiteOverridable", "StopWhenUnneeded"), _STOPS),
    **dict.fromkeys(("PropagatesStopTo", "StopPropagatedFrom"), _STOPS),
    "Wants": "is not carried over: flows do not start others; import and start those, too",
    "Before": "is not carried over: write dependsOn into the flow that has to come later",
    "Condition*": _CHECK,
    "Assert*": _CHECK,
    "OnFailure*": _ACTION,
    "OnSuccess*": _ACTION,
    "FailureAction*": _ACTION,
    "SuccessAction*": _ACTION,
    "StartLimitAction": _ACTION,
    "JobTimeout*": _BOOT,
    "JobRunningTimeoutSec": _BOOT,
    "RebootArgument": _ACTION,
    "Propagates*": "is not carried over: a flow has no reload; flowctl restart",
    "ReloadPropagatedFrom": "is not carried over: a flow has no reload; flowctl restart",
    "JoinsNamespaceOf": _BOX,
    "RequiresMountsFor": _BOOT,
    "WantsMountsFor": _BOOT,
    "DefaultDependencies": _BOOT,
    "AllowIsolate": _BOOT,
    "IgnoreOnIsolate": _BOOT,
    "Refuse*": "is not carried over: who may command flows is told by flowd --tokens",
    "CollectMode": "is systemd's own and means nothing here",
    "SourcePath": "is systemd's own and means nothing here",
}

INSTALL = {
    "Alias": "is not carried over, but for dependencies: a flow has one name",
    "Also": "is not carried over: import that unit as well",
    "RequiredBy": _STOPS,
    "UpheldBy": _STOPS,
}

SERVICE = {
    "ExecReload": "is not carried over: a flow has no reload; flowctl restart",
    "ExecCondition": _CHECK,
    "ExecStartPost": "is not run: have a script start it, or make it a flow that depends on this",
    "ExecStop": "is not run: the step is sent stop.signal; have a script trap it",
    "ExecStopPost": "is not run: have a script do it when its command has ended",
    "RemainAfterExit": "is not carried over: a flow that has ended well is 'completed'",
    "GuessMainPID": "is not carried over: a flow runs in the foreground",
    "PIDFile": "is not carried over: a flow runs in the foreground",
    "BusName": _NOTIFY,
    "NotifyAccess": _NOTIFY,
    "WatchdogSec": "is not carried over: use livenessProbe, or progress.silenceTimeout",
    "WatchdogSignal": "is not carried over: use livenessProbe, or progress.silenceTimeout",
    "TimeoutStartSec": "is not carried over: use startupProbe to limit how long a start may take",
    "TimeoutAbortSec": "is not carried over: only stop.timeout limits an end",
    "Timeout*FailureMode": "is not carried over: stop.timeout ends in SIGKILL",
    "TimeoutStartFailureMode": "is not carried over: stop.timeout ends in SIGKILL",
    "TimeoutStopFailureMode": "is not carried over: stop.timeout ends in SIGKILL",
    "TimeoutCleanSec": "is systemd's own and means nothing here",
    "RuntimeMaxSec": "is not carried over: begin the command with timeout(1)",
    "RuntimeRandomizedExtraSec": "is not carried over: begin the command with timeout(1)",
    "ExitType": "is not carried over: a flow ends with its first process",
    "RestartForceExitStatus": "is not carried over: only policy OnFailure, Always or Never is",
    "RestartKillSignal": "is not carried over: stop.signal ends it, whatever for",
    "FinalKillSignal": "is not carried over: what does not end is killed by SIGKILL",
    "SendSIGKILL": "is not carried over: what does not end is always killed",
    "SendSIGHUP": "is not carried over: only stop.signal is sent",
    "StartLimitAction": _ACTION,
    "FailureAction": _ACTION,
    "RebootArgument": _ACTION,
    "OOMPolicy": "is not carried over: a step that outgrows its memory is killed as a whole",
    "OOMScoreAdjust": _NICE,
    "FileDescriptorStore*": _SOCKET,
    "Sockets": _SOCKET,
    "NonBlocking": _SOCKET,
    "OpenFile": _SOCKET,
    "USBFunction*": _SOCKET,
    "StandardInput*": "is not carried over: the first step of a flow reads /dev/null",
    "StandardOutput": _LOG,
    "StandardError": _LOG,
    "Syslog*": _LOG,
    "Log*": _LOG,
    "TTY*": "is not carried over: a step has no terminal",
    "Utmp*": "is not carried over: a step has no terminal",
    "Nice": _NICE,
    "IOScheduling*": _NICE,
    "CPUScheduling*": _NICE,
    "CPUAffinity": _NICE,
    "NUMA*": _NICE,
    "TimerSlackNSec": _NICE,
    "CoredumpFilter": _NICE,
    "RuntimeDirectory*": _DIRECTORY,
    "StateDirectory*": _DIRECTORY,
    "CacheDirectory*": _DIRECTORY,
    "LogsDirectory*": _DIRECTORY,
    "ConfigurationDirectory*": _DIRECTORY,
    "Group": "is not carried over: a step has the groups of its user",
    "SupplementaryGroups": "is not carried over: a step has the groups of its user",
    "DynamicUser": "is not carried over: name a user that there is in the step's user",
    "PAMName": "is not carried over: flows have no session",
    "PermissionsStartOnly": "is not carried over: all of a step runs as its user",
    "RootDirectoryStartOnly": _BOX,
    "UnsetEnvironment": "is not carried over: begin the command with env -u NAME",
    "ExecSearchPath": "is not carried over: programs are looked for on PATH; set it in env",
    "IgnoreSIGPIPE": "is not carried over: SIGPIPE has its default effect in a step",
    "SetCredential*": "is not carried over: use valueFrom: {file: ...}",
    "LoadCredential*": "is not carried over: use valueFrom: {file: ...}",
    "ImportCredential*": "is not carried over: use valueFrom: {file: ...}",
    "RestartMode": "is systemd's own and means nothing here",
    **dict.fromkeys(
        (
            *("Protect*", "Private*", "Restrict*", "ReadWrite*", "ReadOnly*", "Inaccessible*"),
            *("Bind*", "SystemCall*", "Capabilit*", "AmbientCapabilities", "NoNewPrivileges"),
            *("SecureBits", "MemoryDenyWriteExecute", "LockPersonality", "RemoveIPC", "Root*"),
            *("Mount*", "Temporary*", "ExecPaths", "NoExecPaths", "KeyringMode", "SELinux*"),
            *("AppArmor*", "Smack*", "Network*", "IPC*", "Extension*", "ProcSubset", "Personality"),
            *("Device*", "IPAddress*", "IPIngress*", "IPEgress*", "SocketBind*", "BPF*", "NFTSet"),
        ),
        _BOX,
    ),
    **dict.fromkeys(
        (
            *("CPU*", "StartupCPU*", "Memory*", "StartupMemory*", "DefaultMemory*", "IO*"),
            *("StartupIO*", "BlockIO*", "StartupBlockIO*", "TasksAccounting", "ManagedOOM*"),
            *("Allowed*", "StartupAllowed*", "Slice", "Delegate*", "DisableControllers"),
            *("LimitRSS", "LimitLOCKS", "LimitSIGPENDING", "LimitMSGQUEUE", "LimitNICE"),
            *("LimitRTPRIO", "LimitRTTIME"),
        ),
        _WEIGHT,
    ),
}
