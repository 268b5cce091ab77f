"""What a user wants: the Flow document as frozen Structs.

Every field stands here and nowhere else; the JSON Schema and the documentation come from these
definitions. Names are snake_case here and camelCase in documents.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from flow_operator.model.container import Container, Image
from flow_operator.model.part import Argument, Name, Part, Port, Text
from flow_operator.model.units import Cpu, Duration, Size, duration, size
from flow_operator.structs import prepared

API_VERSION: Literal["flow-operator.dev/v1"] = "flow-operator.dev/v1"

RESERVED_KEY = "x-operator"
"""The key under which the store keeps its own bookkeeping in a document. As an extension key it
leaves the rest a manifest that may be copied as it is."""

Count = Annotated[int, Meta(ge=1, le=10_000)]
ExitCode = Annotated[int, Meta(ge=0, le=255)]
Signal = Literal["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL"]
State = Literal["running", "paused", "stopped"]
ProbeKind = Literal["startup", "readiness", "liveness"]


class Metadata(Part, frozen=True):
    """Who the flow is.

    Attributes:
        name: the flow's id, as in `flowctl status NAME`.
        labels: what selectors choose flows by, as in `-l team=payments`.
        annotations: whatever one wants to keep with the flow; the operator does not read it.
    """

    name: Name
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)


class FileReference(Part, frozen=True):
    """A value that is read from a file each time a step starts.

    Attributes:
        file: where the file is.
    """

    file: Annotated[Text, Meta(min_length=1, description="Path; relative to the working dir.")]


class EnvVar(Part, frozen=True):
    """One environment variable: either ``value`` or ``valueFrom``.

    Attributes:
        name: the variable's name.
        value: its value. What is secret belongs into a file: this is shown to whoever may read
            the flow.
        value_from: where its value is read from when the step starts; it is never shown.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)")]
    value: Text | None = None
    value_from: FileReference | None = None


class ExecAction(Part, frozen=True):
    """A check that succeeds when the command exits 0.

    Attributes:
        command: what is run, in the step's directory and environment.
    """

    command: Annotated[tuple[Argument, ...], Meta(min_length=1)]


class HttpGetAction(Part, frozen=True):
    """A check that succeeds on an HTTP status of 200 to 399.

    Attributes:
        port: on which the step listens.
        path: what is asked for.
        host: where it listens; if left out, where its runner has it: this machine or its container.
    """

    port: Port
    path: Annotated[str, Meta(pattern=r"^/[!-~]*$(?!\n)")] = "/"
    host: Annotated[str, Meta(pattern=r"^[!-~]+$(?!\n)")] | None = None


class TcpSocketAction(Part, frozen=True):
    """A check that succeeds when the port accepts a connection.

    Attributes:
        port: on which the step listens.
        host: where it listens; if left out, where its runner has it: this machine or its container.
    """

    port: Port
    host: Annotated[str, Meta(pattern=r"^[!-~]+$(?!\n)")] | None = None


class LogLineAction(Part, frozen=True):
    """A check that succeeds once the step has printed a line that matches.

    A line is what stands before a newline, at most its first 4 KiB.

    Attributes:
        pattern: what must be found anywhere in the line.
    """

    pattern: Annotated[
        Text,
        Meta(min_length=1, max_length=1024, description="A regular expression of Python's re."),
    ]


class Probe(Part, frozen=True):
    """A periodic check: exactly one of ``exec``, ``httpGet``, ``tcpSocket`` and ``logLine``.

    Attributes:
        exec: runs a command.
        http_get: asks for a page.
        tcp_socket: makes a connection.
        log_line: waits for a line of the step's output; not for livenessProbe.
        initial_delay: how long after the start of the step the first check is made.
        period: how long from one check to the next.
        timeout: after how long a check counts as failed.
        success_threshold: how many checks in a row must succeed.
        failure_threshold: how many checks in a row must fail.
    """

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    log_line: LogLineAction | None = None
    initial_delay: Duration = duration("0s")
    period: Duration = duration("10s")
    timeout: Duration = duration("1s")
    success_threshold: Count = 1
    failure_threshold: Count = 3


class Limits(Part, frozen=True):
    """Hard limits of a step.

    ``openFiles`` holds for each process. The others hold for all of a step's processes together,
    where the operator can make cgroups (version 2); the status tells whether they are enforced.

    Attributes:
        open_files: descriptors that each process may hold:
        cpu: CPU time in a second of time.
        memory: memory of all processes together; who asks for more is killed.
        pids: how many there may be at once.
    """

    open_files: Annotated[int, Meta(ge=16, le=1_048_576, description="RLIMIT_NOFILE.")] | None = (
        None
    )
    cpu: Cpu | None = None
    memory: Size | None = None
    pids: Annotated[int, Meta(ge=1, le=4_194_304, description="Processes and threads.")] | None = (
        None
    )


Number = Annotated[int, Meta(ge=0, le=2**62)]


class Rlimits(Part, frozen=True):
    """Limits of each process, soft and hard at once, by their names in setrlimit(2).

    None may be above the hard limit with which the operator was started.

    Attributes:
        address_space: bytes of address space.
        core: bytes of a core dump.
        cpu: how much CPU time a process may use.
        data: bytes of the data segment.
        fsize: bytes of the largest file that may be written.
        memlock: bytes that may be locked in memory.
        nproc: how many there may be at once.
        stack: bytes of the stack.
    """

    address_space: Size | None = field(default=None, name="as")
    core: Size | None = None
    cpu: Annotated[Number, Meta(description="Seconds.")] | None = None
    data: Size | None = None
    fsize: Size | None = None
    memlock: Size | None = None
    nproc: Annotated[Number, Meta(description="Processes of the user.")] | None = None
    stack: Size | None = None


class Resources(Part, frozen=True):
    """What a step may use.

    Attributes:
        limits: of the step as a whole.
        rlimits: of each of its processes.
    """

    limits: Limits = Limits()
    rlimits: Rlimits = Rlimits()


class Step(Part, frozen=True):
    """One long-running command of the pipe: exactly one of ``command`` and ``script``.

    A container may have neither, and then runs what its image says.

    Attributes:
        name: of the step, which no other step of the flow has.
        command: the program and its arguments, which no shell reads:
        script: a shell script instead of a command.
        working_dir: where it starts, and where relative paths start from. It is itself relative to
            the directory of the manifest file, or to where flowd was started for a flow that came
            over the API, and that directory if left out.
        env: environment variables.
        env_from: files of NAME=VALUE lines that become environment variables; `env` goes before
            them.
        user: who runs it; the operator's own user if left out.
        umask: which permissions new files do not get, in octal; the operator's own if left out.
        resources: what it may use.
        image: of its container, where it is not the flow's; for `runner: container`.
        startup_probe: until it succeeds no other probe is looked at; if it fails the step is
            restarted.
        readiness_probe: the step is ready as long as it succeeds; dependsOn and the status
            tell.
        liveness_probe: if it fails the step is restarted.
        success_exit_codes: the exit codes that mean that it has done its work.
    """

    name: Name
    command: Annotated[tuple[Argument, ...], Meta(min_length=1, description="argv.")] | None = None
    script: Annotated[Text, Meta(min_length=1, description="Run by `sh -c`.")] | None = None
    working_dir: Annotated[Text, Meta(min_length=1)] | None = None
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[FileReference, ...] = ()
    user: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$(?!\n)",
                description="Name or uid; only users that flowd allows.",
            ),
        ]
        | None
    ) = None
    umask: Annotated[str, Meta(pattern=r"^0?[0-7]{3}$(?!\n)")] | None = None
    resources: Resources = Resources()
    image: Image | None = None
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    success_exit_codes: Annotated[tuple[ExitCode, ...], Meta(min_length=1)] = (0,)

    @property
    def argv(self) -> tuple[str, ...]:
        """What is executed; empty where an image says it."""
        if self.command is None and self.script is None:
            return ()
        return self.command or ("/bin/sh", "-c", self.script or "")

    @property
    def probes(self) -> dict[ProbeKind, Probe]:
        """The probes that are configured."""
        listed: dict[ProbeKind, Probe | None] = {
            "startup": self.startup_probe,
            "readiness": self.readiness_probe,
            "liveness": self.liveness_probe,
        }
        return {kind: probe for kind, probe in listed.items() if probe is not None}


class Dependency(Part, frozen=True):
    """Another flow that must have come so far before this one starts.

    Attributes:
        name: of the other flow.
        condition: how far it must have come.
    """

    name: Name
    condition: Literal["Started", "Ready", "Completed"] = "Started"


class Backoff(Part, frozen=True):
    """Delays between restarts: ``initial * factor**n``, at most ``max``, spread by ``jitter``.

    Attributes:
        initial: the first delay.
        factor: how much longer each delay is than the one before.
        max: the longest delay.
        jitter: by which share of itself a delay is made shorter or longer at random.
    """

    initial: Duration = duration("1s")
    factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    max: Duration = duration("5m")
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1


class Restart(Part, frozen=True):
    """What happens when a step exits by itself.

    The first restart after a healthy spell is immediate; those that follow back off.

    Attributes:
        policy: after which exits a step is started again. `OnFailure`: those whose code is not
            one of successExitCodes.
        scope: what is started again: the `step` alone, while the pipes are held open, or the
            whole `flow`.
        backoff: the delays between restarts.
        reset_after: after how long a step counts as healthy, and its restarts begin anew.
        max_restarts: after how many restarts in a row the flow has failed; null is never.
    """

    policy: Literal["Always", "OnFailure", "Never"] = "Always"
    scope: Literal["step", "flow"] = "step"
    backoff: Backoff = field(default_factory=Backoff)
    reset_after: Duration = duration("10m")
    max_restarts: Annotated[int, Meta(ge=0)] | None = None


class Stop(Part, frozen=True):
    """How a soft stop goes: ``drain`` ends the source first, ``signal`` ends all steps at once.

    Attributes:
        signal: what the source is sent, or with mode `signal` each step.
        mode: whether what is in flight is worked off.
        timeout: after how long every step is told to end; 5 s later it is killed.
    """

    signal: Signal = "SIGTERM"
    mode: Literal["drain", "signal"] = "drain"
    timeout: Duration = duration("30s")


class Pause(Part, frozen=True):
    """How a pause goes: ``freeze`` stops every process where it is; memory is kept.

    ``intake`` ends the first step, has what it wrote used up by the others, and keeps those idle.

    Attributes:
        mode: whether processes are held where they are, or have nothing more to do.
    """

    mode: Literal["freeze", "intake"] = "freeze"


class Update(Part, frozen=True):
    """How a change of the steps reaches a running flow.

    ``Restart`` drains and starts again; ``OnDelete`` waits for the next stop.

    Attributes:
        strategy: when a change of the steps takes effect.
    """

    strategy: Literal["Restart", "OnDelete"] = "Restart"


class Progress(Part, frozen=True):
    """What happens when a step writes nothing for ``silenceTimeout``; null is: nobody looks.

    Attributes:
        silence_timeout: how long a step may write nothing.
        action: `Report` sets the condition Silent; `Restart` restarts the step, too.
    """

    silence_timeout: Duration | None = None
    action: Literal["Report", "Restart"] = "Report"


class Logs(Part, frozen=True):
    """How much is kept of what each step prints: at most ``maxSize`` in each of ``maxFiles``.

    Attributes:
        max_size: of each file; 4Ki at least.
        max_files: the one that is written included.
    """

    max_size: Size = size("10Mi")
    max_files: Annotated[int, Meta(ge=1, le=1000)] = 5


class Spec(Part, frozen=True):
    """What is wanted.

    Attributes:
        steps: the commands, in the order of the pipe: what one writes the next one reads.
        state: what the flow is to do. Left out, `flowctl apply` leaves it as it is.
        description: what it is for, in words.
        runner: what runs the steps: this machine, or a container engine.
        container: what their containers are made of; other runners pass over it.
        replicas: how many times the whole pipe runs, side by side.
        depends_on: flows that must have come so far before this one starts.
        restart: what happens when a step exits by itself.
        stop: how a soft stop goes.
        pause: how a pause goes.
        update: how a change of the steps reaches a running flow.
        logs: how much is kept of what each step prints.
        progress: what happens when a step falls silent.
    """

    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=64)]
    state: State = "running"
    description: Text = ""
    runner: Literal["process", "container"] = "process"
    container: Container | None = None
    replicas: Annotated[int, Meta(ge=1, le=1000)] = 1
    depends_on: tuple[Dependency, ...] = ()
    restart: Restart = field(default_factory=Restart)
    stop: Stop = field(default_factory=Stop)
    pause: Pause = Pause()
    update: Update = Update()
    logs: Logs = field(default_factory=Logs)
    progress: Progress = Progress()

    @property
    def contained(self) -> Container:
        """``container``, or what it is if left out."""
        return self.container or Container()


@prepared
class Flow(Part, frozen=True):
    """One desired-state document.

    Attributes:
        metadata: who the flow is.
        spec: what is wanted.
        api_version: which form this is; may be left out.
        kind: what this is; may be left out.
    """

    metadata: Metadata
    spec: Spec
    api_version: Literal["flow-operator.dev/v1"] = API_VERSION
    kind: Literal["Flow"] = "Flow"

    @property
    def flow_id(self) -> str:
        """``metadata.name``."""
        return self.metadata.name


def template_hash(flow: Flow, base: str | None) -> str:
    """A digest of what a running instance was started from.

    Two flows of one hash need no restart to become each other. ``base`` is the directory that
    relative paths start from. Fields that came later count only where they are used, so that an
    upgrade of the operator restarts nothing.
    """
    steps = [
        (s.name, s.argv, s.working_dir, s.env, s.env_from, s.resources)
        + ((s.user, s.umask) if s.user or s.umask else ())
        for s in flow.spec.steps
    ]
    if flow.spec.runner != "container":
        return digest((flow.spec.runner, base, steps))
    images = [s.image for s in flow.spec.steps]
    made_of = msgspec.structs.replace(flow.spec.contained, pull_policy="Always")
    return digest((flow.spec.runner, base, steps, made_of, images))


def digest(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of ``value`` as JSON: a name, not a safeguard."""
    return hashlib.sha256(msgspec.json.encode(value, enc_hook=encode_unit)).hexdigest()[:16]


def encode_unit(value: Any) -> Any:
    """Msgspec's ``enc_hook``: durations and quantities are written as the user wrote them."""
    if isinstance(value, Duration | Size | Cpu):
        return value.text
    raise NotImplementedError(f"cannot encode {type(value)}")


def decode_unit(kind: type, value: Any) -> Any:
    """Msgspec's ``dec_hook`` for the types of :mod:`flow_operator.model.units`."""
    if kind in (Duration, Size, Cpu):
        return _written(kind, value) if isinstance(value, str) else kind.parse(value)
    raise NotImplementedError(f"cannot decode {kind}")


@lru_cache(maxsize=1024)
def _written(kind: type[Duration | Size | Cpu], text: str) -> Duration | Size | Cpu:
    """One value for all who write the same: thousands of flows say ``30s``."""
    return kind.parse(text)


def convert(document: Any) -> Flow:
    """Turn plain data into a Flow.

    Raises:
        msgspec.ValidationError: naming the first thing that is wrong.
    """
    return msgspec.convert(document, Flow, dec_hook=decode_unit)
