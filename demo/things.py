"""How each thing of the demo world looks, at rest and while it sounds.

A drawing takes a pen whose box is -1..1 both ways (y down), the thing's own colour and how active it is (0..1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from demo.pen import Colour, Pen, blend

INK: Colour = (35, 28, 32)
WHITE: Colour = (250, 250, 246)
MOUTH: Colour = (120, 20, 30)
TONGUE: Colour = (240, 110, 120)

Drawing = Callable[[Pen, Colour, float], None]


def _eyes(pen: Pen, x: float, y: float, size: float, iris: Colour = WHITE) -> None:
    for side in (-1, 1):
        pen.disc(side * x, y, size, iris)
        pen.disc(side * x, y, size * 0.55, INK)


def _mouth(pen: Pen, y: float, width: float, active: float) -> None:
    pen.disc(0, y + 0.22 * active, width * (0.7 + 0.3 * active), MOUTH, 0.03 + 0.26 * active)
    if active > 0.3:
        pen.disc(0, y + 0.34 * active, width * 0.55, TONGUE, 0.12 * active)


def _bell(pen: Pen, colour: Colour, active: float) -> None:
    wood = (110, 70, 40)
    pen.line([(-0.85, 0.95), (-0.85, -0.9), (0.85, -0.9), (0.85, 0.95)], 0.14, wood)
    swing = pen.moved(0, -0.82, turn=-28 * active)
    swing.line([(0, 1.15), (0, 1.38)], 0.16, blend(INK, colour, 0.3))
    swing.disc(0, 1.42, 0.14, blend(INK, colour, 0.3))
    outline = [(-0.12, 0.05), (-0.36, 0.35), (-0.42, 0.85), (-0.66, 1.22), (0.66, 1.22), (0.42, 0.85), (0.36, 0.35)]
    swing.poly([*outline, (0.12, 0.05)], colour)
    swing.poly([(-0.2, 0.4), (-0.26, 0.85), (-0.38, 1.1), (-0.2, 1.1), (-0.12, 0.85), (-0.08, 0.4)], WHITE)
    swing.rect(-0.66, 1.14, 0.66, 1.24, blend(colour, INK, 0.3))


def _bird(pen: Pen, colour: Colour, active: float) -> None:
    pen.line([(-1, 0.85), (1, 0.78)], 0.12, (105, 70, 45))
    pen.line([(-0.05, 0.5), (-0.05, 0.8)], 0.07, (230, 150, 40))
    pen.line([(0.15, 0.5), (0.15, 0.8)], 0.07, (230, 150, 40))
    pen.poly([(-0.4, 0.2), (-1.0, 0.45), (-0.95, 0.15)], blend(colour, INK, 0.35))
    pen.disc(0, 0.1, 0.58, colour, 0.5)
    pen.disc(0.18, 0.22, 0.36, (240, 130, 80), 0.34)
    pen.disc(0.35, -0.42, 0.36, colour)
    wing = pen.moved(0.05, -0.02, turn=50 * active)
    wing.poly([(0.1, -0.1), (-0.25, -0.15), (-0.85, 0.1), (-0.4, 0.3), (0.05, 0.2)], blend(colour, INK, 0.3))
    pen.disc(0.45, -0.5, 0.1, WHITE)
    pen.disc(0.47, -0.5, 0.06, INK)
    for side in (-1, 1):
        beak = pen.moved(0.66, -0.4, turn=side * 28 * active)
        beak.poly([(0, -0.1 if side < 0 else 0.0), (0.34, 0), (0, 0.0 if side < 0 else 0.1)], (245, 180, 40))


def _camera(pen: Pen, colour: Colour, active: float) -> None:
    pen.rect(-0.95, -0.4, 0.95, 0.7, colour)
    pen.rect(-0.95, -0.4, 0.95, -0.2, blend(colour, WHITE, 0.55))
    pen.rect(-0.35, -0.68, 0.35, -0.4, blend(colour, WHITE, 0.55))
    pen.rect(-0.85, -0.56 + 0.1 * active, -0.55, -0.38, (210, 50, 50))
    pen.disc(0, 0.22, 0.46, (190, 190, 195))
    pen.disc(0, 0.22, 0.36, INK)
    pen.disc(0, 0.22, 0.24, (60, 80, 130))
    pen.disc(-0.1, 0.12, 0.08, WHITE)
    pen.rect(0.52, -0.16, 0.86, 0.06, blend((140, 150, 160), (255, 255, 255), active))
    if active > 0.05:
        for turn in range(0, 360, 45):
            pen.moved(0.69, -0.05, turn=turn).poly([(-0.1, 0), (0.1, 0), (0, 0.75 * active)], (255, 255, 215))
        pen.disc(0.69, -0.05, 0.3 * active, (255, 255, 255))


def _car(pen: Pen, colour: Colour, active: float) -> None:
    for side in (-1, 1):
        pen.rect(side * 0.78 - 0.16, 0.5, side * 0.78 + 0.16, 0.95, INK)
    pen.poly([(-0.6, -0.75), (0.6, -0.75), (0.85, -0.1), (-0.85, -0.1)], colour)
    pen.poly([(-0.5, -0.62), (0.5, -0.62), (0.68, -0.14), (-0.68, -0.14)], (150, 205, 230))
    pen.poly([(-0.3, -0.62), (-0.1, -0.62), (-0.3, -0.14), (-0.55, -0.14)], (215, 238, 246))
    pen.poly([(-0.85, -0.12), (0.85, -0.12), (1.0, 0.15), (1.0, 0.7), (-1.0, 0.7), (-1.0, 0.15)], colour)
    pen.rect(-0.42, 0.2, 0.42, 0.48, INK)
    for x in (-0.28, -0.1, 0.08, 0.26):
        pen.rect(x - 0.03, 0.22, x + 0.03, 0.46, (150, 150, 155))
    pen.rect(-1.0, 0.58, 1.0, 0.74, (200, 200, 205))
    for side in (-1, 1):
        pen.disc(side * 0.7, 0.3, 0.2 + 0.1 * active, blend((225, 225, 190), (255, 240, 90), active))
        pen.disc(side * 0.7, 0.3, 0.12 * (1 - active) + 0.2 * active, blend((170, 170, 160), (255, 255, 225), active))


def _cat(pen: Pen, colour: Colour, active: float) -> None:
    for side in (-1, 1):
        pen.poly([(side * 0.85, -1.0), (side * 0.12, -0.55), (side * 0.8, 0.05)], colour)
        pen.poly([(side * 0.74, -0.78), (side * 0.34, -0.5), (side * 0.7, -0.2)], (235, 150, 160))
    pen.disc(0, 0.1, 0.86, colour, 0.78)
    for x in (-0.2, 0, 0.2):
        pen.line([(x, -0.6), (x * 0.8, -0.32)], 0.09, blend(colour, INK, 0.55))
    _eyes(pen, 0.36, -0.05, 0.19, (150, 220, 90))
    pen.disc(0, 0.42, 0.34, blend(colour, WHITE, 0.75), 0.24)
    _mouth(pen, 0.46, 0.24, active)
    pen.poly([(-0.1, 0.24), (0.1, 0.24), (0, 0.37)], (230, 110, 130))
    for side in (-1, 1):
        for lift in (-0.12, 0.0, 0.12):
            pen.line([(side * 0.35, 0.4), (side * 1.05, 0.36 + lift * 1.6)], 0.035, WHITE)


def _dog(pen: Pen, colour: Colour, active: float) -> None:
    dark = blend(colour, INK, 0.5)
    pen.disc(0, -0.05, 0.72, colour, 0.85)
    for side in (-1, 1):
        ear = pen.moved(side * 0.58, -0.62, turn=-side * (12 + 12 * active))
        ear.disc(side * 0.12, 0.5, 0.27, dark, 0.62)
    _eyes(pen, 0.3, -0.3, 0.15)
    muzzle = blend(colour, WHITE, 0.7)
    pen.disc(0, 0.72, 0.34, blend(muzzle, INK, 0.12), 0.14 + 0.14 * active)
    pen.disc(0, 0.3, 0.46, muzzle, 0.4)
    _mouth(pen, 0.5, 0.34, active)
    pen.disc(0, 0.08, 0.2, INK, 0.15)


def _door(pen: Pen, colour: Colour, active: float) -> None:
    frame = blend(colour, WHITE, 0.65)
    pen.rect(-0.72, -1.0, 0.72, 1.0, frame)
    pen.rect(-0.6, -0.9, 0.6, 1.0, (30, 25, 25))
    leaf = pen.moved(-0.6, 0, wide=1 - 0.16 * active)
    leaf.rect(0, -0.9, 1.2, 1.0, colour)
    for x0, x1 in ((0.12, 0.54), (0.66, 1.08)):
        leaf.rect(x0, -0.78, x1, -0.1, blend(colour, INK, 0.3))
        leaf.rect(x0, 0.2, x1, 0.86, blend(colour, INK, 0.3))
    leaf.disc(1.08, 0.06, 0.08, (240, 205, 80))
    fist = pen.moved(1.0 - 0.55 * active, -0.3 + 0.1 * active)
    skin = (232, 178, 140)
    fist.line([(0.06, 0.0), (0.2, 0.55)], 0.26, (60, 90, 160))
    fist.disc(0, 0, 0.24, skin, 0.2)
    for y in (-0.12, 0.0, 0.12):
        fist.line([(-0.2, y), (-0.05, y)], 0.05, blend(skin, INK, 0.4))


def _drum(pen: Pen, colour: Colour, active: float) -> None:
    pen.rect(-0.85, -0.05, 0.85, 0.75, colour)
    pen.disc(0, 0.75, 0.85, colour, 0.22)
    for x in (-0.85, -0.28, 0.28):
        pen.line([(x, 0.0), (x + 0.28, 0.85), (x + 0.56, 0.0)], 0.06, (245, 215, 90))
    pen.disc(0, -0.02, 0.9, blend(INK, colour, 0.5), 0.3)
    pen.disc(0, -0.06, 0.85, blend((225, 218, 200), (255, 255, 255), active), 0.25 + 0.03 * active)
    for side, part in ((-1, active), (1, 0.0)):
        stick = pen.moved(side * 0.98, -0.42, turn=-side * 48 * part)
        stick.line([(0, 0), (-side * 0.5, -0.5)], 0.11, (150, 95, 50))
        stick.disc(-side * 0.56, -0.56, 0.14, WHITE)


def _duck(pen: Pen, colour: Colour, active: float) -> None:
    pen.disc(-0.12, 0.42, 0.82, colour, 0.5)
    pen.poly([(-0.75, 0.4), (-1.0, -0.1), (-0.45, 0.1)], colour)
    pen.disc(0.36, -0.38, 0.44, colour)
    pen.disc(-0.22, 0.38, 0.45, blend(colour, (170, 110, 20), 0.4), 0.26)
    for side in (-1, 1):
        beak = pen.moved(0.7, -0.3, turn=side * 24 * active)
        y0, y1 = (-0.16, 0.02) if side < 0 else (-0.02, 0.14)
        beak.poly([(0, y0), (0.4, -0.02), (0.42, 0.05), (0, y1)], (240, 110, 30))
    pen.disc(0.46, -0.5, 0.11, WHITE)
    pen.disc(0.48, -0.5, 0.065, INK)
    pen.disc(0, 0.9, 0.9, (120, 185, 225), 0.1)


def _frog(pen: Pen, colour: Colour, active: float) -> None:
    dark = blend(colour, INK, 0.3)
    for side in (-1, 1):
        pen.disc(side * 0.72, 0.7, 0.3, dark, 0.22)
        pen.disc(side * 0.45, -0.5, 0.3, colour)
    pen.disc(0, 0.12, 0.95, colour, 0.66)
    for side in (-1, 1):
        pen.disc(side * 0.45, -0.54, 0.21, WHITE)
        pen.disc(side * 0.45, -0.54, 0.12, INK)
    sac = 0.12 + 0.42 * active
    pen.disc(0, 0.55, 0.4 + 0.28 * active, blend(colour, (250, 250, 190), 0.75), sac)
    pen.line([(-0.7, 0.02), (-0.35, 0.2), (0, 0.25), (0.35, 0.2), (0.7, 0.02)], 0.08, (40, 70, 30))


def _hammer(pen: Pen, colour: Colour, active: float) -> None:
    iron = (85, 90, 102)
    pen.poly([(-1.0, 0.3), (0.6, 0.3), (0.85, 0.42), (0.3, 0.6), (0.3, 0.8), (0.6, 0.98), (-0.6, 0.98)], iron)
    pen.poly([(-0.6, 0.98), (-0.3, 0.8), (-0.3, 0.6), (-0.8, 0.5), (-1.0, 0.3)], iron)
    pen.rect(-0.95, 0.28, 0.65, 0.38, blend(iron, WHITE, 0.4))
    arm = pen.moved(0.95, 0.1, turn=62 * (1 - active) - 4)
    arm.line([(0, 0), (-1.1, 0)], 0.15, (170, 110, 60))
    arm.rect(-1.3, -0.34, -0.9, 0.2, colour)
    arm.rect(-1.34, 0.04, -0.86, 0.2, blend(colour, WHITE, 0.5))
    if active > 0.2:
        for turn in (-65, -35, -10, 15, 45):
            pen.moved(-0.2, 0.2, turn=turn).line([(-0.2, -0.3 * active), (-0.3, -0.7 * active)], 0.07, (255, 210, 60))


def _hands(pen: Pen, colour: Colour, active: float) -> None:
    for side in (-1, 1):
        hand = pen.moved(side * (0.5 - 0.31 * active), 0.1, turn=side * (16 - 14 * active))
        hand.rect(-0.24, 0.5, 0.24, 0.9, (70, 110, 190))
        hand.disc(0, 0.2, 0.3, colour, 0.42)
        for finger, height in ((-0.2, -0.62), (-0.06, -0.78), (0.08, -0.74), (0.21, -0.58)):
            hand.line([(finger, 0.05), (finger * 1.15, height)], 0.13, colour)
            hand.line([(finger + 0.07, -0.05), (finger * 1.15 + 0.07, height + 0.2)], 0.025, blend(colour, INK, 0.5))
        hand.line([(-side * 0.22, 0.3), (-side * 0.42, -0.1)], 0.14, colour)


def _saw(pen: Pen, colour: Colour, active: float) -> None:
    pen.disc(0.0, 0.66, 1.0, (120, 75, 45), 0.32)
    pen.disc(0.82, 0.66, 0.2, (215, 170, 115), 0.32)
    pen.disc(0.82, 0.66, 0.1, (175, 125, 80), 0.16)
    blade = pen.moved(0.38 - 0.42 * active, -0.1, turn=20)
    teeth = [(-0.98 + 0.135 * k, 0.18 + 0.035 * k + (0.14 if k % 2 else 0)) for k in range(9)]
    blade.poly([(-1.02, 0.0), (0.2, -0.4), (0.2, 0.5), *reversed(teeth)], (208, 215, 225))
    blade.line([(-0.9, 0.03), (0.15, -0.28)], 0.07, WHITE)
    blade.poly([(0.12, -0.46), (0.5, -0.5), (0.78, -0.2), (0.72, 0.5), (0.5, 0.6), (0.12, 0.46)], colour)
    blade.poly([(0.34, -0.2), (0.5, -0.22), (0.56, 0.0), (0.5, 0.28), (0.34, 0.24)], INK)
    if active > 0.1:
        for x, y in ((-0.55, 0.5), (-0.3, 0.62), (0.0, 0.55), (-0.7, 0.75)):
            pen.disc(x, y - 0.5 * (active - 0.5), 0.08, (250, 225, 150))


def _sheep(pen: Pen, colour: Colour, active: float) -> None:
    wool = blend(WHITE, colour, 0.15)
    for turn in range(0, 360, 36):
        angle = np.radians(turn)
        pen.disc(0.62 * float(np.cos(angle)), -0.1 + 0.6 * float(np.sin(angle)), 0.33, wool)
    pen.disc(0, -0.1, 0.7, wool)
    face = (70, 60, 62)
    for side in (-1, 1):
        ear = pen.moved(side * 0.5, -0.02, turn=side * (22 - 30 * active))
        ear.disc(side * 0.26, 0, 0.3, face, 0.13)
    pen.disc(0, 0.22, 0.47, face, 0.62)
    for x in (-0.24, 0.0, 0.24):
        pen.disc(x, -0.42, 0.2, wool)
    _eyes(pen, 0.2, 0.08, 0.13)
    pen.disc(0, 0.6, 0.3, blend(face, WHITE, 0.35), 0.22)
    _mouth(pen, 0.62, 0.26, active)


def _typewriter(pen: Pen, colour: Colour, active: float) -> None:
    carriage = pen.moved(0.22 - 0.4 * active, 0)
    carriage.rect(-0.5, -1.0, 0.5, -0.1, WHITE)
    for y in (-0.84, -0.66, -0.48):
        carriage.rect(-0.38, y, 0.36, y + 0.06, (120, 120, 130))
    carriage.rect(-0.8, -0.3, 0.8, -0.08, (60, 60, 66))
    pen.line([(0, 0.2), (0, 0.12 - 0.5 * active)], 0.1, (225, 225, 230))
    pen.poly([(-0.75, -0.08), (0.75, -0.08), (1.0, 0.85), (-1.0, 0.85)], colour)
    pen.rect(-1.0, 0.8, 1.0, 0.95, blend(colour, INK, 0.5))
    for row, y in enumerate((0.2, 0.42, 0.64)):
        for k in range(6):
            down = 0.09 * active if (k + row) % 3 == 0 else 0.0
            pen.disc(-0.55 - 0.05 * row + (0.22 + 0.02 * row) * k, y + down, 0.09, WHITE)


def _whistle(pen: Pen, colour: Colour, active: float) -> None:
    dark = blend(colour, INK, 0.4)
    pen.disc(-0.9, 0.55, 0.16, dark)
    pen.disc(-0.9, 0.55, 0.09, (170, 170, 170))
    pen.poly([(-0.35, -0.36), (1.0, -0.36), (1.0, 0.06), (0.2, 0.2), (-0.2, 0.2)], colour)
    pen.disc(-0.3, 0.24, 0.6, colour)
    pen.disc(-0.3, 0.24, 0.4, dark)
    pen.disc(-0.3 + 0.18 * active, 0.34 - 0.36 * active, 0.2, (250, 220, 110))
    pen.rect(0.12, -0.4, 0.42, -0.18, INK)
    if active > 0.05:
        for turn in (-28, 0, 28):
            puff = pen.moved(0.27, -0.42, turn=turn)
            puff.disc(0, -0.12 - 0.34 * active, 0.06 + 0.08 * active, WHITE, 0.08 + 0.22 * active)


def _person(pen: Pen, colour: Colour, active: float) -> None:
    skin, hair = (236, 188, 150), (70, 45, 30)
    arm = pen.moved(0.5, 0.35, turn=-70 * active)
    arm.line([(0, 0), (0.28, 0.5)], 0.2, blend(colour, INK, 0.2))
    arm.disc(0.3, 0.56, 0.13, skin)
    pen.poly([(-0.5, 0.2), (0.5, 0.2), (0.68, 1.0), (-0.68, 1.0)], colour)
    pen.disc(0, -0.4, 0.5, hair, 0.56)
    pen.disc(0, -0.3, 0.42, skin, 0.5)
    _eyes(pen, 0.17, -0.38, 0.1)
    _mouth(pen, -0.1, 0.2, active)


def _piano(pen: Pen, colour: Colour, active: float) -> None:
    pen.rect(-1.0, -0.9, 1.0, 0.25, colour)
    pen.rect(-0.85, -0.75, 0.85, -0.1, blend(colour, WHITE, 0.15))
    pen.rect(-1.0, 0.25, 1.0, 0.62, WHITE)
    for key in range(10):
        down = 0.12 * active if key % 3 == 1 else 0.0
        pen.rect(-0.94 + 0.19 * key, 0.25 + down, -0.86 + 0.19 * key, 0.47 + down, INK)
    for side in (-1, 1):
        pen.rect(side * 0.86 - 0.1, 0.62, side * 0.86 + 0.1, 1.0, blend(colour, INK, 0.4))


def _flute(pen: Pen, colour: Colour, active: float) -> None:
    tube = pen.moved(0, 0.15 - 0.2 * active, turn=-24)
    tube.line([(-1.0, 0), (1.0, 0)], 0.24, colour)
    tube.disc(-0.72, 0, 0.09, INK)
    for hole in range(6):
        tube.disc(-0.25 + 0.2 * hole, 0, 0.07 if hole % 2 else 0.07 * (1 - active), INK)


def _violin(pen: Pen, colour: Colour, active: float) -> None:
    for y, wide in ((-0.05, 0.42), (0.5, 0.52)):
        pen.disc(0, y, wide, colour, 0.42)
    pen.rect(-0.08, -1.0, 0.08, 0.2, INK)
    pen.rect(-0.16, 0.62, 0.16, 0.7, INK)
    pen.line([(0, -0.9), (0, 0.7)], 0.04, WHITE)
    bow = pen.moved(-0.35 + 0.7 * active, 0.3, turn=-20)
    bow.line([(-0.9, 0), (0.9, 0)], 0.07, (110, 70, 40))


def _guitar(pen: Pen, colour: Colour, active: float) -> None:
    neck = pen.moved(0, 0, turn=38)
    neck.rect(-0.09, -1.15, 0.09, 0.1, (90, 60, 40))
    neck.rect(-0.15, -1.3, 0.15, -1.1, INK)
    neck.disc(0, 0.15, 0.4, colour, 0.36)
    neck.disc(0, 0.6, 0.55, colour, 0.46)
    neck.disc(0, 0.3, 0.16, INK)
    neck.rect(-0.2, 0.72, 0.2, 0.8, INK)
    hand = neck.moved(0.35 - 0.6 * active, 0.45)
    hand.disc(0, 0, 0.17, (236, 188, 150))


def _trumpet(pen: Pen, colour: Colour, active: float) -> None:
    horn = pen.moved(0, 0.1, turn=-14 * active)
    horn.line([(-1.0, 0), (0.5, 0)], 0.12, colour)
    horn.poly([(0.3, -0.06), (1.0, -0.5), (1.0, 0.5), (0.3, 0.06)], colour)
    horn.line([(-0.5, 0), (-0.5, 0.4), (0.3, 0.4), (0.3, 0)], 0.12, blend(colour, INK, 0.2))
    for valve in range(3):
        down = 0.16 * active if valve != 1 else 0.0
        horn.rect(-0.36 + 0.2 * valve, -0.34 + down, -0.26 + 0.2 * valve, 0.0, blend(colour, WHITE, 0.5))


# Each drawing with the colours that its individuals come in.
DRAWINGS: dict[str, tuple[Drawing, tuple[Colour, ...]]] = {
    "bell": (_bell, ((225, 175, 45), (205, 150, 60))),
    "bird": (_bird, ((60, 120, 215), (90, 150, 225))),
    "camera": (_camera, ((50, 50, 58), (90, 60, 50))),
    "car": (_car, ((205, 40, 45), (40, 90, 200), (240, 190, 40))),
    "cat": (_cat, ((140, 140, 150), (225, 150, 70))),
    "dog": (_dog, ((165, 105, 55), (200, 150, 90))),
    "door": (_door, ((150, 70, 45), (45, 110, 85))),
    "drum": (_drum, ((200, 40, 50), (40, 80, 180))),
    "duck": (_duck, ((250, 215, 60), (245, 240, 225))),
    "frog": (_frog, ((90, 180, 70), (60, 150, 90))),
    "hammer": (_hammer, ((130, 135, 145), (170, 60, 50))),
    "hands": (_hands, ((240, 195, 160), (150, 100, 70))),
    "saw": (_saw, ((190, 60, 50), (60, 90, 160))),
    "sheep": (_sheep, ((230, 220, 200), (255, 255, 255))),
    "typewriter": (_typewriter, ((40, 110, 115), (130, 45, 60))),
    "whistle": (_whistle, ((190, 195, 205), (240, 130, 40))),
    "person": (_person, ((70, 120, 170), (180, 70, 80), (90, 140, 80))),
    "flute": (_flute, ((215, 220, 230), (225, 205, 150))),
    "guitar": (_guitar, ((200, 140, 70), (150, 60, 40))),
    "piano": (_piano, ((60, 40, 35), (110, 60, 40))),
    "trumpet": (_trumpet, ((240, 200, 70), (225, 175, 60))),
    "violin": (_violin, ((170, 85, 40), (145, 65, 35))),
}
