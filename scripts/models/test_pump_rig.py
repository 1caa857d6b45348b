"""What the rig promises: determinism, faults where they are asked for, clear errors."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import unittest
from pathlib import Path

import pump_rig


def mean(samples: list[pump_rig.Row], channel: str) -> float:
    index = pump_rig.CHANNELS.index(channel)
    return statistics.fmean(row.values[index] for row in samples)


class Rows(unittest.TestCase):
    def test_equal_seeds_give_equal_rows(self) -> None:
        first = list(pump_rig.rows(300, 7))
        self.assertEqual(first, list(pump_rig.rows(300, 7)))
        self.assertNotEqual(first, list(pump_rig.rows(300, 8)))
        # Golden row: the demo and the committed models rely on these numbers.
        self.assertEqual(first[299].csv(), GOLDEN_ROW)

    def test_a_fault_changes_nothing_before_its_row(self) -> None:
        normal = list(pump_rig.rows(300, 7))
        for fault in pump_rig.FAULTS:
            with self.subTest(fault=fault):
                faulty = list(pump_rig.rows(300, 7, fault=fault, fault_at=200))
                self.assertEqual(faulty[:200], normal[:200])
                self.assertEqual([row.anomaly for row in faulty[200:]], [1] * 100)
                self.assertNotEqual(faulty[210].values, normal[210].values)

    def test_faults_move_the_channels_that_physics_says(self) -> None:
        normal = list(pump_rig.rows(1000, 7))
        moves = {
            "cavitation": {"discharge_pressure_bar": -1, "vibration_x_g": 1},
            "blocked-outlet": {"flow_lpm": -1, "discharge_pressure_bar": 1},
            "bearing-wear": {"motor_temperature_degc": 1, "vibration_x_g": 1},
            "leak": {"flow_lpm": -1, "motor_current_a": 1},
        }
        for fault, channels in moves.items():
            faulty = list(pump_rig.rows(1000, 7, fault=fault))
            for channel, sign in channels.items():
                with self.subTest(fault=fault, channel=channel):
                    ratio = mean(faulty, channel) / mean(normal, channel)
                    self.assertGreater(sign * (ratio - 1.0), 0.03)

    def test_a_stuck_gauge_repeats_its_last_value(self) -> None:
        stuck = list(pump_rig.rows(300, 7, fault="stuck-sensor", fault_at=100))
        gauge = pump_rig.CHANNELS.index("discharge_pressure_bar")
        values = {row.values[gauge] for row in stuck[99:]}
        self.assertEqual(len(values), 1)

    def test_a_ramp_starts_small(self) -> None:
        normal = list(pump_rig.rows(300, 7))
        ramp = list(
            pump_rig.rows(300, 7, fault="bearing-wear", fault_at=100, fault_ramp=200)
        )
        gaps = [
            mean(ramp[at:], "vibration_x_g") - mean(normal[at:], "vibration_x_g")
            for at in (100, 200, 280)
        ]
        self.assertEqual(gaps, sorted(gaps))
        self.assertLess(abs(ramp[100].values[4] - normal[100].values[4]), 0.005)

    def test_a_site_offset_is_no_anomaly(self) -> None:
        normal = list(pump_rig.rows(50, 7))
        shifted = list(pump_rig.rows(50, 7, site_offset={"flow_lpm": 2.5}))
        self.assertAlmostEqual(
            mean(shifted, "flow_lpm") - mean(normal, "flow_lpm"), 2.5
        )
        self.assertEqual({row.anomaly for row in shifted}, {0})

    def test_unknown_names_are_refused_with_the_known_ones(self) -> None:
        with self.assertRaisesRegex(ValueError, "unknown fault 'fire'.*cavitation"):
            pump_rig.rows(1, 1, fault="fire")
        with self.assertRaisesRegex(ValueError, "unknown channel 'volts'.*flow_lpm"):
            pump_rig.rows(1, 1, site_offset={"volts": 1.0})
        with self.assertRaisesRegex(ValueError, "rows is -1"):
            pump_rig.rows(-1, 1)


class CommandLine(unittest.TestCase):
    def run_main(self, *arguments: str) -> tuple[int | str | None, str]:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            try:
                return pump_rig.main(list(arguments)), errors.getvalue()
            except SystemExit as stop:
                return stop.code, errors.getvalue()

    def test_a_file_has_the_header_and_every_row(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rig.csv")
            code, errors = self.run_main("--rows", "20", "--seed", "7", "-o", str(path))
            self.assertEqual((code, errors), (0, ""))
            lines = path.read_text().splitlines()
            self.assertEqual(lines[0].split(","), list(pump_rig.HEADER))
            self.assertEqual(lines[1:], [row.csv() for row in pump_rig.rows(20, 7)])
            self.assertEqual(
                [entry.name for entry in Path(folder).iterdir()], ["rig.csv"]
            )

    def test_wrong_use_is_one_clear_message(self) -> None:
        basic = ("--rows", "5", "--seed", "7")
        for extra, message in (
            (("--fault", "fire"), "unknown fault 'fire'; choose one of cavitation"),
            (("--fault-at", "3"), "need --fault NAME"),
            (("--site-offset", "flow_lpm"), "the '=' is missing"),
        ):
            with self.subTest(extra=extra):
                code, errors = self.run_main(*basic, *extra)
                self.assertEqual(code, 2)
                self.assertIn(message, errors)

    def test_an_unwritable_file_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "absent", "rig.csv")
            code, errors = self.run_main("--rows", "5", "--seed", "7", "-o", str(path))
            self.assertEqual(code, 1)
            self.assertIn(str(path), errors)


GOLDEN_ROW = "29.9,0.962,2.550,38.6,55.28,0.1269,0.0964,0"

if __name__ == "__main__":
    unittest.main()
