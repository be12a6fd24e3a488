"""How each place of the demo world looks: backgrounds of 320 × 240 units, each different with the seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from demo.pen import Colour, Pen, blend, jitter

Rng = np.random.Generator
Backdrop = Callable[[Pen, Rng], None]

INK: Colour = (35, 28, 32)
WHITE: Colour = (250, 250, 246)


def _cloud(pen: Pen, x: float, y: float, size: float) -> None:
    for dx, dy, r in ((-1.1, 0.2, 0.6), (-0.4, -0.1, 0.8), (0.4, -0.2, 0.9), (1.1, 0.2, 0.6)):
        pen.disc(x + dx * size, y + dy * size, r * size, WHITE, r * size * 0.7)


def _sky(pen: Pen, rng: Rng, bottom: float) -> None:
    top = jitter((110, 180, 235), rng)
    pen.shade(0, bottom, 0, 320, top, blend(top, WHITE, 0.65))
    for _ in range(int(rng.integers(1, 4))):
        _cloud(pen, rng.uniform(10, 310), rng.uniform(15, 55), rng.uniform(9, 16))


def _beach(pen: Pen, rng: Rng) -> None:
    _sky(pen, rng, 100)
    pen.disc(rng.uniform(30, 290), rng.uniform(22, 45), rng.uniform(16, 22), (255, 225, 90))
    sea = jitter((30, 130, 190), rng)
    pen.shade(85, 140, 0, 320, sea, blend(sea, (120, 220, 220), 0.6))
    for _ in range(9):
        x, y = rng.uniform(0, 300), rng.uniform(92, 134)
        pen.line([(x, y), (x + rng.uniform(12, 30), y)], 2, WHITE)
    sail = rng.uniform(40, 280)
    pen.poly([(sail, 92), (sail, 62), (sail + 20, 90)], WHITE)
    pen.poly([(sail - 14, 92), (sail + 22, 92), (sail + 14, 100), (sail - 8, 100)], (190, 60, 50))
    sand = jitter((235, 205, 140), rng)
    pen.shade(138, 240, 0, 320, sand, blend(sand, (190, 150, 90), 0.4))
    pen.line([(0, 139), (90, 142), (180, 138), (320, 141)], 4, (245, 245, 235))
    for _ in range(30):
        pen.disc(rng.uniform(0, 320), rng.uniform(150, 238), 1.5, blend(sand, INK, 0.25))
    side = rng.integers(2)
    x = rng.uniform(18, 40) if side else rng.uniform(280, 302)
    pen.line([(x, 215), (x + 4, 95)], 5, (140, 90, 55))
    red = jitter((225, 60, 60), rng, 25)
    for k in range(6):
        colour = red if k % 2 else WHITE
        a0, a1 = np.pi + k * np.pi / 6, np.pi + (k + 1) * np.pi / 6
        edge = [(x + 4 + 44 * float(np.cos(a)), 112 + 34 * float(np.sin(a))) for a in np.linspace(a0, a1, 5)]
        pen.poly([(x + 4, 112), *edge], colour)


def _cave(pen: Pen, rng: Rng) -> None:
    rock = jitter((72, 58, 78), rng, 12)
    pen.shade(0, 240, 0, 320, blend(rock, INK, 0.5), rock)
    x, y = rng.uniform(120, 200), rng.uniform(85, 110)
    for size, share in ((82, 0.15), (62, 0.35), (44, 0.6), (28, 0.85)):
        pen.disc(x, y, size * 1.1, blend(rock, (190, 215, 230), share), size * 0.9)
    pen.shade(165, 240, 0, 320, blend(rock, INK, 0.25), blend(rock, INK, 0.6))
    edge = 0.0
    while edge < 320:
        width, length = rng.uniform(18, 36), rng.uniform(25, 85)
        if abs(edge + width / 2 - 160) < 70:
            length *= 0.5
        shade = blend(rock, INK, rng.uniform(0.3, 0.6))
        pale = blend(shade, WHITE, 0.15)
        pen.poly([(edge, 0), (edge + width, 0), (edge + width * 0.55, length)], shade)
        pen.poly([(edge + 3, 0), (edge + width * 0.35, 0), (edge + width * 0.5, length * 0.8)], pale)
        if rng.random() < 0.6:
            base = 240 - rng.uniform(0, 12)
            pen.poly([(edge, base), (edge + width, base), (edge + width * 0.5, base - length * 0.5)], shade)
        edge += width * 0.9
    for _ in range(5):
        pen.disc(rng.uniform(0, 320), rng.uniform(190, 235), rng.uniform(8, 18), (70, 100, 130), rng.uniform(2, 4))


def _farm(pen: Pen, rng: Rng) -> None:
    _sky(pen, rng, 121)
    grass = jitter((150, 195, 75), rng)
    pen.disc(rng.uniform(40, 280), 150, 200, blend(grass, (90, 150, 70), 0.5), 62)
    pen.rect(0, 120, 320, 240, grass)
    wheat = jitter((225, 195, 80), rng)
    for k in range(9):
        pen.line([(160 + (k - 4) * 22, 120), (160 + (k - 4) * 70, 240)], 9, blend(wheat, grass, 0.25 * (k % 2)))
    left = bool(rng.integers(2))
    x = rng.uniform(12, 32) if left else rng.uniform(208, 228)
    red = jitter((175, 45, 40), rng)
    pen.rect(x, 70, x + 82, 135, red)
    pen.poly([(x - 6, 72), (x + 12, 40), (x + 41, 24), (x + 70, 40), (x + 88, 72)], blend(red, INK, 0.55))
    pen.poly([(x + 8, 72), (x + 20, 46), (x + 41, 34), (x + 62, 46), (x + 74, 72)], red)
    pen.rect(x + 26, 92, x + 56, 135, WHITE)
    pen.line([(x + 27, 93), (x + 55, 134)], 3, red)
    pen.line([(x + 55, 93), (x + 27, 134)], 3, red)
    pen.disc(x + 41, 58, 8, WHITE)
    silo = x + 96 if left else x - 34
    pen.rect(silo, 62, silo + 24, 135, (190, 195, 200))
    pen.disc(silo + 12, 62, 12, (150, 155, 165))
    for post in np.arange(rng.uniform(-20, 0), 330, 32):
        pen.rect(float(post), 128, float(post) + 6, 160, (240, 235, 220))
    for y in (135, 147):
        pen.rect(0, y, 320, y + 5, (240, 235, 220))


def _forest(pen: Pen, rng: Rng) -> None:
    deep = jitter((40, 95, 55), rng)
    pen.shade(0, 170, 0, 320, blend(deep, (170, 220, 140), 0.55), blend(deep, (120, 180, 100), 0.35))
    for column in range(-10, 330, 26):
        x = column + rng.uniform(-8, 8)
        trunk = blend(deep, INK, 0.35)
        pen.rect(x, 20, x + rng.uniform(5, 9), 165, trunk)
    pen.shade(160, 240, 0, 320, blend(deep, (90, 150, 60), 0.4), blend(deep, INK, 0.2))
    for base, spread in ((rng.uniform(8, 40), 34.0), (rng.uniform(265, 300), 34.0), (rng.uniform(90, 230), 26.0)):
        bark = jitter((95, 65, 45), rng, 10)
        width = rng.uniform(9, 13)
        foot = 205.0 if spread > 30 else 172.0
        pen.poly([(base - width, foot), (base - width * 0.6, 40), (base + width * 0.6, 40), (base + width, foot)], bark)
        for _ in range(7):
            leaf = jitter(blend(deep, (70, 150, 60), 0.5), rng, 20)
            pen.disc(base + rng.uniform(-spread, spread), rng.uniform(5, 52), rng.uniform(16, 26), leaf)
    for _ in range(40):
        x, y = rng.uniform(0, 320), rng.uniform(172, 238)
        pen.poly([(x - 3, y), (x, y - rng.uniform(6, 12)), (x + 3, y)], jitter((80, 150, 65), rng, 25))
    for _ in range(4):
        x, y = rng.uniform(0, 320), rng.uniform(195, 232)
        pen.rect(x - 2, y, x + 2, y + 7, WHITE)
        pen.disc(x, y, 6, (210, 50, 45), 4)


def _kitchen(pen: Pen, rng: Rng) -> None:
    wall = jitter((245, 225, 175), rng, 14)
    pen.rect(0, 0, 320, 240, wall)
    for column in range(0, 320, 20):
        pen.rect(column, 70, column + 1.2, 160, blend(wall, INK, 0.22))
    for y in range(70, 160, 15):
        pen.rect(0, y, 320, y + 1.2, blend(wall, INK, 0.22))
    door = jitter((90, 165, 165), rng, 20)
    flip = bool(rng.integers(2))
    for k in range(4):
        left = k * 52 + (112 if flip else 0)
        pen.rect(left + 2, 0, left + 50, 58, door)
        pen.rect(left + 8, 6, left + 44, 52, blend(door, WHITE, 0.3))
        pen.disc(left + 40, 44, 2.5, INK)
    hood = 50.0 if flip else 265.0
    pen.poly(
        [(hood - 14, 0), (hood + 14, 0), (hood + 14, 30), (hood + 40, 60), (hood - 40, 60), (hood - 14, 30)],
        (175, 180, 185),
    )
    for k in range(int(rng.integers(3, 5))):
        x = 95 + k * 38 + rng.uniform(-5, 5)
        pen.line([(x, 62), (x, 82)], 2.5, INK)
        pen.disc(x, 90, 10, jitter((185, 100, 60), rng, 25))
    pen.rect(0, 158, 320, 172, jitter((150, 105, 70), rng, 12))
    pen.rect(0, 172, 320, 240, blend(door, INK, 0.12))
    for x in range(0, 320, 64):
        pen.rect(x + 5, 180, x + 59, 234, door)
        pen.rect(x + 26, 184, x + 38, 187, INK)
    pot = hood + rng.uniform(-8, 8)
    pen.rect(pot - 20, 128, pot + 20, 157, jitter((200, 60, 50), rng, 20))
    pen.rect(pot - 24, 126, pot + 24, 132, INK)
    pen.rect(pot - 44, 154, pot + 44, 159, INK)


def _office(pen: Pen, rng: Rng) -> None:
    wall = jitter((190, 200, 215), rng, 12)
    pen.rect(0, 0, 320, 240, wall)
    flip = bool(rng.integers(2))
    x = 12.0 if flip else 190.0
    pen.rect(x, 14, x + 118, 104, WHITE)
    pen.rect(x + 5, 19, x + 113, 99, jitter((150, 195, 230), rng, 12))
    for tower in range(5):
        top = rng.uniform(45, 80)
        pen.rect(x + 8 + tower * 21, top, x + 25 + tower * 21, 99, jitter((110, 125, 150), rng, 15))
    for y in range(22, int(rng.uniform(40, 70)), 7):
        pen.rect(x + 5, y, x + 113, y + 3, WHITE)
    shelf = 212.0 if flip else 12.0
    pen.rect(shelf, 10, shelf + 96, 108, (120, 85, 60))
    for y in (14, 46, 78):
        pen.rect(shelf + 4, y, shelf + 92, y + 28, (80, 55, 40))
        at = shelf + 5
        while at < shelf + 82:
            width = rng.uniform(5, 10)
            pen.rect(at, y + rng.uniform(2, 8), at + width - 1, y + 28, jitter((130, 120, 130), rng, 95))
            at += width
    pen.rect(0, 165, 320, 180, jitter((165, 115, 75), rng, 12))
    pen.rect(0, 180, 320, 240, jitter((95, 100, 112), rng, 10))
    for leg in (8, 150, 300):
        pen.rect(leg, 180, leg + 10, 240, (70, 60, 58))
    screen = 6.0 if flip else 244.0
    pen.rect(screen, 112, screen + 70, 154, (40, 42, 48))
    pen.rect(screen + 4, 116, screen + 66, 150, jitter((60, 130, 190), rng, 25))
    pen.rect(screen + 28, 154, screen + 42, 166, (60, 62, 68))
    plant = 292.0 if flip else 26.0
    pen.poly([(plant - 12, 142), (plant + 12, 142), (plant + 8, 166), (plant - 8, 166)], (200, 110, 70))
    for turn in (-50, -25, 0, 25, 50):
        pen.moved(plant, 142, turn=turn).disc(0, -16, 4.5, jitter((60, 145, 70), rng, 15), 17)


def _street(pen: Pen, rng: Rng) -> None:
    _sky(pen, rng, 150)
    x = rng.uniform(-30, 0)
    while x < 320:
        width, top = rng.uniform(48, 76), rng.uniform(18, 62)
        front = jitter(((190, 110, 85), (205, 180, 140), (150, 155, 165))[int(rng.integers(3))], rng, 14)
        pen.rect(x, top, x + width, 150, front)
        pen.rect(x - 1, top - 5, x + width + 1, top + 2, blend(front, INK, 0.4))
        for wy in np.arange(top + 10, 118, 22):
            for wx in np.arange(x + 8, x + width - 14, 18):
                lit = rng.random() < 0.35
                pen.rect(
                    float(wx), float(wy), float(wx) + 10, float(wy) + 13, (250, 230, 140) if lit else (70, 95, 125)
                )
        pen.rect(x + width / 2 - 7, 124, x + width / 2 + 7, 150, blend(front, INK, 0.6))
        x += width + 1
    pen.rect(0, 148, 320, 166, (195, 192, 188))
    pen.rect(0, 164, 320, 168, (130, 128, 126))
    pen.rect(0, 168, 320, 240, jitter((82, 84, 90), rng, 8))
    for dash in np.arange(rng.uniform(-50, 0), 320, 62):
        pen.rect(float(dash), 206, float(dash) + 34, 212, (240, 235, 210))
    lamp = rng.uniform(14, 40) if rng.integers(2) else rng.uniform(282, 306)
    pen.rect(lamp - 2.5, 60, lamp + 2.5, 166, (45, 55, 55))
    pen.poly([(lamp - 9, 60), (lamp + 9, 60), (lamp + 6, 40), (lamp - 6, 40)], (255, 240, 170))
    pen.poly([(lamp - 9, 41), (lamp + 9, 41), (lamp, 32)], (45, 55, 55))


def _station(pen: Pen, rng: Rng) -> None:
    pen.shade(0, 120, 0, 320, (205, 215, 222), (235, 235, 228))
    beam = (90, 105, 110)
    peak = rng.uniform(120, 200)
    pen.poly([(0, 0), (320, 0), (320, 34), (peak, 8), (0, 34)], beam)
    for x in np.arange(rng.uniform(0, 40), 320, 56):
        pen.line([(float(x), 0), (peak + (float(x) - peak) * 0.9, 40)], 3, blend(beam, INK, 0.3))
    body = jitter(((40, 105, 80), (190, 55, 50), (45, 80, 150))[int(rng.integers(3))], rng, 12)
    pen.rect(0, 66, 320, 158, body)
    pen.rect(0, 60, 320, 68, blend(body, INK, 0.45))
    pen.rect(0, 128, 320, 136, (240, 225, 170))
    start = rng.uniform(-40, 0)
    for k, x in enumerate(np.arange(start, 320, 46)):
        if k % 3 == 2:
            pen.rect(float(x) + 6, 74, float(x) + 36, 156, blend(body, WHITE, 0.35))
            pen.rect(float(x) + 11, 82, float(x) + 31, 112, (190, 220, 235))
        else:
            pen.rect(float(x) + 3, 80, float(x) + 39, 114, (190, 220, 235))
    pen.rect(0, 158, 320, 172, (50, 48, 52))
    pen.rect(0, 172, 320, 240, jitter((165, 160, 158), rng, 10))
    pen.rect(0, 176, 320, 186, (245, 205, 50))
    for x in np.arange(rng.uniform(-30, 0), 320, 44):
        pen.line([(float(x) + 8, 188), (160 + (float(x) - 160) * 1.4, 240)], 1.5, (130, 126, 124))
    clock = rng.uniform(26, 60) if rng.integers(2) else rng.uniform(260, 294)
    pen.rect(clock - 2, 0, clock + 2, 30, INK)
    pen.disc(clock, 44, 19, INK)
    pen.disc(clock, 44, 16, WHITE)
    pen.line([(clock, 44), (clock, 33)], 2.5, INK)
    turn = rng.uniform(0, 2 * np.pi)
    pen.line([(clock, 44), (clock + 9 * float(np.cos(turn)), 44 + 9 * float(np.sin(turn)))], 2.5, INK)


BACKDROPS: dict[str, Backdrop] = {
    "beach": _beach,
    "cave": _cave,
    "farm": _farm,
    "forest": _forest,
    "kitchen": _kitchen,
    "office": _office,
    "street": _street,
    "train station": _station,
}
