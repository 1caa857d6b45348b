#!/usr/bin/env python3
"""A simulated centrifugal pump rig: one CSV row of six channels every 0.1 s.

Owns the physics and the fault modes of the demo's data. Needs nothing beyond
the standard library, because the demo runs it on a bare machine. It must never
read a clock or any global random state: equal arguments give equal rows.

The rig is a closed loop: pump, pressure gauge, throttle valve, flow meter, back
to the pump. `Q` is flow in l/min, `H` the pump's pressure rise in bar, `n` the
speed relative to nominal, `v` the valve opening (0 to 1):

* Pump curve by the affinity laws: ``H = n^2 H0 - a Q^2``; loop:
  ``H = (r_pipe + r_valve / v^2) Q^2``. A closed loop has no static head, so both
  meet at ``Q = n sqrt(H0 / (a + r))``, which the water reaches with a first-order
  lag. The gauge reads ``p_fill + H``.
* Shaft power ``P = n^3 P0 + n^2 c Q``; line current
  ``I = sqrt(I_magnetising^2 + (P / (eta sqrt(3) U))^2)``; slip lowers ``n`` with P.
* Winding temperature, first order with time constant 10 s towards
  ``T_air + k I^2``; the air around the motor swings by 2 K as its
  fan cycles every 20 s.
* Vibration RMS grows with ``n^2`` and with the squared distance from the best
  efficiency point.
* The valve steps through six openings in a new random order each cycle of about
  20 s, so a minute of rows shows the whole operating range.
* Every sensor adds first-order autoregressive noise.

Fault modes, each with a severity ``s`` that ramps linearly from 0 to 1:

* ``cavitation``: vapour takes up to 18 % of the head, unsteadily, and 8 % of the
  shaft power; broadband vibration on both axes.
* ``blocked-outlet``: the outlet closes to a tenth of the wanted opening.
* ``bearing-wear``: up to 60 W of friction, which also heats the motor; vibration
  grows, on x more than on y.
* ``leak``: water leaves between gauge and flow meter, up to 14 l/min per
  sqrt(bar): the pump delivers more, the meter sees less.
* ``stuck-sensor``: the pressure gauge repeats the last value before the fault;
  it has no severity, so the ramp does not matter.

The draws of a row do not depend on the fault: with equal seeds, a faulty run and
a normal one are equal up to the row of the fault.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

RATE_HZ = 10
CHANNELS = (
    "motor_current_a",
    "discharge_pressure_bar",
    "flow_lpm",
    "motor_temperature_degc",
    "vibration_x_g",
    "vibration_y_g",
)
UNITS = ("A", "bar", "l/min", "degC", "g", "g")
HEADER = ("time_s", *CHANNELS, "anomaly")
FAULTS = ("cavitation", "blocked-outlet", "bearing-wear", "leak", "stuck-sensor")

DT_S = 1.0 / RATE_HZ

# Hydraulics: bar, l/min.
HEAD_SHUTOFF_BAR = 2.4
PUMP_LOSS = 1.5e-4
PIPE_LOSS = 1.0e-4
VALVE_LOSS = 2.9e-4
FILL_PRESSURE_BAR = 0.35
BEST_EFFICIENCY_LPM = 55.0
FLOW_LAG_S = 0.3
LEAK_LPM_PER_SQRT_BAR = 14.0

# Motor: three-phase, 400 V line to line.
IDLE_POWER_W = 180.0
POWER_W_PER_LPM = 3.2
NOMINAL_POWER_W = 350.0
NOMINAL_SLIP = 0.03
EFFICIENCY = 0.75
LINE_VOLTAGE_V = 400.0
MAGNETISING_A = 0.75
BEARING_FRICTION_W = 60.0

# Heat: kelvin per square ampere, kelvin per watt of bearing friction.
AIR_DEGC = 24.0
AIR_SWING_DEGC = 2.0
AIR_PERIOD_S = 20.0
HEATING_K_PER_A2 = 32.0
BEARING_K_PER_W = 0.15
WINDING_LAG_S = 10.0
WARM_WINDING_DEGC = 56.5

# Valve programme.
OPENINGS = (0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
OPENING_JITTER = 0.005
DWELL_ROWS = (25, 45)
VALVE_LAG_S = 0.8

GRID_DEVIATION = 0.0008
VIBRATION_BASE_G = (0.12, 0.09)
VIBRATION_OFF_DUTY = 0.8
BEARING_VIBRATION = (1.2, 0.8)
CAVITATION_VIBRATION_G = (0.10, 0.08)

# One deviation per channel, in its unit; the two vibration axes are relative.
NOISE = (0.006, 0.012, 0.35, 0.25, 0.04, 0.04)
NOISE_CORRELATION = 0.5
DECIMALS = (3, 3, 1, 2, 4, 4)


class Row(NamedTuple):
    """One sample as the rig's logger writes it: rounded, in the units of the names."""

    time_s: float
    values: tuple[float, ...]
    anomaly: int

    def csv(self) -> str:
        """The row as one CSV line without its line end."""
        cells = (
            f"{value:.{places}f}"
            for value, places in zip(self.values, DECIMALS, strict=True)
        )
        return f"{self.time_s:.1f},{','.join(cells)},{self.anomaly}"


class _Noise:
    """First-order autoregressive Gaussian noise of unit variance."""

    def __init__(self, stream: str, correlation: float) -> None:
        # Only `random()` is promised to give equal numbers in every Python
        # version, so the Gaussian is made here (Box-Muller) and not by `gauss`.
        self._random = random.Random(stream)
        self._correlation = correlation
        self._fresh = math.sqrt(1.0 - correlation * correlation)
        self._value = self._gaussian()

    def _gaussian(self) -> float:
        radius = math.sqrt(-2.0 * math.log(1.0 - self._random.random()))
        return radius * math.cos(2.0 * math.pi * self._random.random())

    def next(self) -> float:
        """Advance by one row."""
        self._value = self._correlation * self._value + self._fresh * self._gaussian()
        return self._value


class _Valve:
    """The valve's programme and its actuator."""

    def __init__(self, stream: str) -> None:
        self._random = random.Random(stream)
        self._queue: list[float] = []
        self._rows_left = 0
        self._target = 0.0
        self._step()
        self._rows_left = 1 + int(self._random.random() * self._rows_left)
        self.opening = self._target

    def _step(self) -> None:
        if not self._queue:
            # Sorting by one draw each is a shuffle that is stable across
            # Python versions.
            self._queue = sorted(OPENINGS, key=lambda _: self._random.random())
        jitter = (2.0 * self._random.random() - 1.0) * OPENING_JITTER
        self._target = self._queue.pop() + jitter
        low, high = DWELL_ROWS
        self._rows_left = low + int(self._random.random() * (high - low + 1))

    def next(self) -> float:
        """Advance by one row and return the opening."""
        if self._rows_left == 0:
            self._step()
        self._rows_left -= 1
        self.opening += _lag(VALVE_LAG_S) * (self._target - self.opening)
        return self.opening


class _Rig:
    """State of the rig between two rows."""

    def __init__(self, seed: int) -> None:
        self._valve = _Valve(f"{seed}:valve")
        self._grid = _Noise(f"{seed}:grid", 0.98)
        self._vapour = _Noise(f"{seed}:vapour", 0.3)
        self._sensors = [
            _Noise(f"{seed}:{name}", NOISE_CORRELATION) for name in CHANNELS
        ]
        self._air_phase = 2.0 * math.pi * random.Random(f"{seed}:air").random()
        self._power_w = NOMINAL_POWER_W
        self._flow_lpm: float | None = None
        self._winding_degc: float | None = None

    def step(self, time_s: float, severity: Mapping[str, float]) -> list[float]:
        """Advance by one row; returns the channels before offsets and rounding."""
        cavitation = severity.get("cavitation", 0.0)
        bearing = severity.get("bearing-wear", 0.0)
        leak = severity.get("leak", 0.0)
        vapour = self._vapour.next()
        opening = self._valve.next() * (1.0 - 0.9 * severity.get("blocked-outlet", 0.0))

        slip = NOMINAL_SLIP * self._power_w / NOMINAL_POWER_W
        grid = 1.0 + GRID_DEVIATION * self._grid.next()
        speed = grid * (1.0 - slip) / (1.0 - NOMINAL_SLIP)

        # The leak is a second way out beside the loop: conductances add.
        loop = PIPE_LOSS + VALVE_LOSS / (opening * opening)
        outlet = (loop**-0.5 + leak * LEAK_LPM_PER_SQRT_BAR) ** -2
        head_loss = min(max(0.18 * cavitation * (1.0 + 0.5 * vapour), 0.0), 0.6)
        shutoff_bar = speed * speed * HEAD_SHUTOFF_BAR * (1.0 - head_loss)
        steady_lpm = math.sqrt(shutoff_bar / (PUMP_LOSS + outlet))
        if self._flow_lpm is None:
            self._flow_lpm = steady_lpm
        self._flow_lpm += _lag(FLOW_LAG_S) * (steady_lpm - self._flow_lpm)
        pump_lpm = self._flow_lpm
        head_bar = max(shutoff_bar - PUMP_LOSS * pump_lpm * pump_lpm, 0.0)
        meter_lpm = pump_lpm * math.sqrt(outlet / loop)

        friction_w = BEARING_FRICTION_W * bearing
        hydraulic_w = speed**3 * IDLE_POWER_W + speed**2 * POWER_W_PER_LPM * pump_lpm
        self._power_w = hydraulic_w * (1.0 - 0.08 * cavitation) + friction_w
        active_a = self._power_w / (EFFICIENCY * math.sqrt(3.0) * LINE_VOLTAGE_V)
        current_a = math.hypot(MAGNETISING_A, active_a)

        swing = math.sin(2.0 * math.pi * time_s / AIR_PERIOD_S + self._air_phase)
        warm_degc = (
            AIR_DEGC
            + AIR_SWING_DEGC * swing
            + HEATING_K_PER_A2 * current_a * current_a
            + BEARING_K_PER_W * friction_w
        )
        if self._winding_degc is None:
            # The rig has been running before its first row.
            self._winding_degc = WARM_WINDING_DEGC
        self._winding_degc += _lag(WINDING_LAG_S) * (warm_degc - self._winding_degc)

        duty = (pump_lpm / speed - BEST_EFFICIENCY_LPM) / BEST_EFFICIENCY_LPM
        rough = speed * speed * (1.0 + VIBRATION_OFF_DUTY * duty * duty)
        burst = cavitation * max(1.0 + 0.5 * vapour, 0.0)
        vibration = [
            base * rough * (1.0 + worn * bearing) + burst_g * burst
            for base, worn, burst_g in zip(
                VIBRATION_BASE_G, BEARING_VIBRATION, CAVITATION_VIBRATION_G, strict=True
            )
        ]

        noise = [
            deviation * sensor.next()
            for deviation, sensor in zip(NOISE, self._sensors, strict=True)
        ]
        return [
            current_a + noise[0],
            FILL_PRESSURE_BAR + head_bar + noise[1],
            max(meter_lpm + noise[2], 0.0),
            self._winding_degc + noise[3],
            vibration[0] * max(1.0 + noise[4], 0.0),
            vibration[1] * max(1.0 + noise[5], 0.0),
        ]


def _lag(time_constant_s: float) -> float:
    """Share of the way to its target that a first-order lag goes in one row."""
    return 1.0 - math.exp(-DT_S / time_constant_s)


def rows(
    count: int,
    seed: int,
    *,
    fault: str | None = None,
    fault_at: int = 0,
    fault_ramp: int = 0,
    site_offset: Mapping[str, float] | None = None,
) -> Iterator[Row]:
    """Yield `count` rows of the rig with this seed.

    From row `fault_at` on, `fault` (one of `FAULTS`) is present and rows are
    labelled 1; its severity reaches 1 after `fault_ramp` rows. `site_offset` is
    added to the named channels, in their units: another site's calibration or
    climate, which is drift and not an anomaly. Raises `ValueError` for unknown
    names and negative numbers.
    """
    offsets = dict(site_offset or {})
    _check(count, fault, fault_at, fault_ramp, offsets)
    return _generate(count, seed, fault, fault_at, fault_ramp, offsets)


def _check(
    count: int,
    fault: str | None,
    fault_at: int,
    fault_ramp: int,
    offsets: Mapping[str, float],
) -> None:
    for name, number in (
        ("rows", count),
        ("fault-at", fault_at),
        ("fault-ramp", fault_ramp),
    ):
        if number < 0:
            raise ValueError(f"{name} is {number}; give 0 or more")
    if fault is not None and fault not in FAULTS:
        raise ValueError(f"unknown fault '{fault}'; choose one of {', '.join(FAULTS)}")
    for channel, offset in offsets.items():
        if channel not in CHANNELS:
            raise ValueError(
                f"unknown channel '{channel}' in site-offset; "
                f"choose one of {', '.join(CHANNELS)}"
            )
        if not math.isfinite(offset):
            raise ValueError(f"site-offset of {channel} is {offset}; give a number")


def _generate(
    count: int,
    seed: int,
    fault: str | None,
    fault_at: int,
    fault_ramp: int,
    offsets: Mapping[str, float],
) -> Iterator[Row]:
    rig = _Rig(seed)
    gauge = CHANNELS.index("discharge_pressure_bar")
    last_gauge: float | None = None
    for index in range(count):
        present = fault is not None and index >= fault_at
        severity: dict[str, float] = {}
        if fault is not None and present:
            severity[fault] = min((index - fault_at + 1) / (fault_ramp + 1), 1.0)
        values = rig.step(index * DT_S, severity)
        if present and fault == "stuck-sensor" and last_gauge is not None:
            values[gauge] = last_gauge
        last_gauge = values[gauge]
        yield Row(
            time_s=round(index * DT_S, 1),
            values=tuple(
                round(value + offsets.get(name, 0.0), places)
                for name, value, places in zip(CHANNELS, values, DECIMALS, strict=True)
            ),
            anomaly=int(present),
        )


def write_csv(stream: TextIO, samples: Iterator[Row]) -> None:
    """Write the header and all rows, comma separated."""
    stream.write(",".join(HEADER) + "\n")
    for row in samples:
        stream.write(row.csv() + "\n")


def _offset(text: str) -> tuple[str, float]:
    channel, separator, number = text.partition("=")
    try:
        return channel, float(number)
    except ValueError:
        hint = "" if separator else " (the '=' is missing)"
        raise argparse.ArgumentTypeError(
            f"'{text}' is not CHANNEL=NUMBER{hint}"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write rows of a simulated pump rig as CSV, 10 rows a second.",
        epilog=f"Faults: {', '.join(FAULTS)}. Channels: {', '.join(CHANNELS)}.",
    )
    parser.add_argument("--rows", type=int, required=True, help="number of rows")
    parser.add_argument(
        "--seed", type=int, required=True, help="equal seed, equal rows"
    )
    parser.add_argument("--fault", metavar="NAME", help="fault mode, see below")
    parser.add_argument(
        "--fault-at", type=int, metavar="ROW", help="first faulty row (default 0)"
    )
    parser.add_argument(
        "--fault-ramp",
        type=int,
        metavar="ROWS",
        help="rows until full severity (default 0)",
    )
    parser.add_argument(
        "--site-offset",
        type=_offset,
        action="append",
        default=[],
        metavar="CHANNEL=NUMBER",
        help="add a constant to one channel, in its unit; may be repeated",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: standard output"
    )
    return parser


def _write_file(path: Path, samples: Iterator[Row]) -> None:
    # A reader never meets half a file: the name appears with the last row.
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="ascii", newline="\n") as stream:
            write_csv(stream, samples)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (2: wrong use, 1: cannot write)."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.fault is None and (
        args.fault_at is not None or args.fault_ramp is not None
    ):
        parser.error("--fault-at and --fault-ramp need --fault NAME")
    try:
        samples = rows(
            args.rows,
            args.seed,
            fault=args.fault,
            fault_at=args.fault_at or 0,
            fault_ramp=args.fault_ramp or 0,
            site_offset=dict(args.site_offset),
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        if args.output is None:
            write_csv(sys.stdout, samples)
            sys.stdout.flush()
        else:
            _write_file(args.output, samples)
    except BrokenPipeError:
        # The reader has seen enough; without this Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = args.output if args.output is not None else "standard output"
        print(
            f"{parser.prog}: cannot write {where}: {error.strerror}; "
            "give a file in an existing, writable folder",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
