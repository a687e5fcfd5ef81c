"""The demo's pictures: pixel art of six things in four colours before three backgrounds."""

from itertools import product
from pathlib import Path

from PIL import Image

SIDE = 64
"""Width and height of a picture in pixels: 16 x 16 squares of 4 pixels."""

GRID = 16

Colour = tuple[int, int, int]

OUTLINE: Colour = (40, 28, 44)
WHITE: Colour = (250, 246, 236)

COLOURS: dict[str, tuple[Colour, Colour, Colour]] = {
    "red": ((240, 110, 96), (206, 46, 54), (132, 24, 52)),
    "blue": ((112, 170, 246), (48, 98, 214), (30, 52, 138)),
    "yellow": ((255, 236, 130), (244, 188, 44), (186, 116, 24)),
    "purple": ((206, 142, 240), (146, 70, 196), (86, 34, 128)),
}
"""Light, middle and dark shade of each colour."""

# k outline, w white, l m d the light, middle and dark shade of the colour, s stem; a dot shows the background.
THINGS: dict[str, str] = {
    "mushroom": """
        ................
        ................
        .....kkkkkk.....
        ...kkllmmmmkk...
        ..kllwwmmmmmmk..
        .kllmwwmmmwwmmk.
        .klmmmmmmmwwmdk.
        kwwmmmwwmmmmmmdk
        kwwmmmwwmmmmwwdk
        kmmmmmmmmmmmwddk
        .kkddddddddddkk.
        ...kkwwkwwkwk...
        ....kwwkwwkwk...
        ....kwwwwwwsk...
        ....kwwwwwssk...
        .....kkkkkkk....
    """,
    "potion": """
        ................
        ......kkkk......
        .....kssssk.....
        ......kkkk......
        ......kwwk......
        ......kwwk......
        .....kwwwwk.....
        ....kwwwwwwk....
        ...kwwwwwwwwk...
        ..klllmmmmmmmk..
        ..klwlmmmmmmdk..
        ..klwmmmmlmmdk..
        ..klmmmmmmmddk..
        ...kmmlmmmddk...
        ....kkkkkkkk....
        ................
    """,
    "fish": """
        ................
        ................
        .......kkk......
        ......kllk......
        ....kkkllkkk....
        ..kkllllllmmk..k
        .kllllmmmmmmmkkk
        klwkllmmmmdmmkmk
        klkkmmmmmmddmmdk
        kllmmmmmmmdmmkdk
        .kkmmmmmmdddkkkk
        ..kwwwwmdddk..kk
        ...kkkkkkkk.....
        ......kddk......
        .......kk.......
        ................
    """,
    "heart": """
        ................
        ................
        ..kkkk....kkkk..
        .kllllk..kmmmmk.
        kllwwllkkmmmmmdk
        klwwllmmmmmmmmdk
        klwllmmmmmmmmmdk
        kllmmmmmmmmmmmdk
        kmmmmmmmmmmmmddk
        .kmmmmmmmmmmmdk.
        ..kmmmmmmmmmdk..
        ...kmmmmmmmdk...
        ....kmmmmddk....
        .....kmmddk.....
        ......kddk......
        .......kk.......
    """,
    "flower": """
        ......kkkk......
        .....kllllk.....
        ..kkkkllmmkkkk..
        .kllmkllmmkmmmk.
        .klmmmkwwkmmmdk.
        .klmmkwwsskmmdk.
        ..kkkkwwsskkkk..
        .klmmmkwskmmmdk.
        .kmmmkmmmdkmmdk.
        ..kkkkmmddkkkk..
        .....kkddkk.....
        ......kggk......
        ..kkk.kggk.kkk..
        ..kggkkggkkggk..
        ...kggggggggk...
        ....kkkggkkk....
    """,
    "ghost": """
        ................
        .....kkkkkk.....
        ...kkllllmmkk...
        ..kllllllmmmmk..
        ..klllllmmmmmk..
        .kllwwllmwwmmdk.
        .klwwkklwwkkmdk.
        .klwwkklwwkkmdk.
        .kllwwllmwwmmdk.
        .kllllllmmmmmdk.
        .kllllkkkkmmmdk.
        .klllmmkkmmmmdk.
        .kllmmmmmmmmddk.
        .klmmdmmmmdmddk.
        .kmdkkdmmdkkddk.
        ..kk..kkkk..kk..
    """,
}

BACKGROUNDS = {"meadow": "a green meadow", "night": "a dark night sky", "beach": "a sunny beach"}


def draw_sprites(folder: Path) -> None:
    """Writes 24 PNGs of 64 x 64 pixels, each with its caption in a .txt file beside it.

    The same bytes every time; what is there is written again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for (row, thing), (column, colour) in product(enumerate(THINGS), enumerate(COLOURS)):
        # Each thing and each colour is seen before all three, and no two colours before the same sequence.
        background = list(BACKGROUNDS)[(row * (1 + column % 2) + column) % len(BACKGROUNDS)]
        name = f"{thing}-{colour}-{background}"
        draw_sprite(thing, colour, background).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption(thing, colour, background) + "\n", encoding="utf-8")


def caption(thing: str, colour: str, background: str) -> str:
    """What is on a picture, in words."""
    return f"pixel art of a {colour} {thing} on {BACKGROUNDS[background]}"


def draw_sprite(thing: str, colour: str, background: str) -> Image.Image:
    """One picture by the names in :data:`THINGS`, :data:`COLOURS` and :data:`BACKGROUNDS`."""
    light, middle, dark = COLOURS[colour]
    palette = {
        "k": OUTLINE,
        "w": WHITE,
        "l": light,
        "m": middle,
        "d": dark,
        "s": (222, 170, 110),
        "g": (70, 150, 60),
    }
    small = Image.new("RGB", (GRID, GRID))
    for y, row in enumerate(THINGS[thing].split()):
        for x, letter in enumerate(row):
            small.putpixel((x, y), palette.get(letter) or _background(background, x, y))
    return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _background(name: str, x: int, y: int) -> Colour:
    if name == "meadow":
        if y < 9:
            return WHITE if (x, y) in {(1, 1), (2, 1), (3, 1), (12, 1), (13, 1)} else (150, 214, 246)
        return (92, 178, 72) if (5 * x + 3 * y) % 7 else (132, 208, 88)
    if name == "night":
        star = (3 * x + 5 * y) % 13 == 0
        return (246, 232, 160) if star else (26, 26, 66)
    if y < 6:
        return (250, 206, 150)
    if y < 10:
        return (44, 152, 184) if (x + 2 * y) % 5 else (120, 206, 220)
    return (238, 214, 152) if (5 * x + 3 * y) % 8 else (214, 182, 116)
