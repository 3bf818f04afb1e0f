"""One section of the two-dimensional study's page per question, each figure with its data, count and seeds."""

from __future__ import annotations

from gan2d_layout import TITLES, Runs, each, pictures, table


def points_section(found: Runs) -> str:
    """How many modes the recipes on points find."""
    names = [name for name in found if name.endswith(("_ring", "_grid")) and found[name]]
    if not names:
        return ""
    rows = []
    for name in names:
        runs = [run["scores"]["sampled"] for run in found[name]]
        rows.append(
            [
                TITLES[name],
                str(len(runs)),
                each(run["found by one sample"] for run in runs),
                each(run["found by 1 %"] for run in runs),
                each((100 * run["high quality"] for run in runs), ".1f"),
                each((run["reverse KL"] for run in runs), ".3f"),
                each((run["spread"] or 0.0 for run in runs), ".2f"),
            ]
        )
    for name, kind in (("gan_ring", "ring"), ("gan_grid", "grid")):
        real = [run["scores"]["real"] for run in found.get(name, [])][:1]
        rows += [
            [
                f"real {kind}",
                "1",
                str(one["found by one sample"]),
                str(one["found by 1 %"]),
                f"{100 * one['high quality']:.1f}",
                f"{one['reverse KL']:.3f}",
                f"{one['spread']:.2f}",
            ]
            for one in real
        ]
    head = ["", "seeds", "modes, one sample", "modes, 1 %", "high quality, %", "reverse KL", "width"]
    return f"""## Modes: eight on a ring, twenty-five on a grid

2500 samples per run, protocol of Lin et al., "PacGAN", 2018 (section 4.1; their PacGAN finds 23.8 to 24.8 of 25, their
plain GAN 17.3). A sample within three standard deviations of a mode is of high quality: 98.9 % of real points are. A
mode counts as found with one such sample, or with 1 % of all samples. Width is the standard deviation of samples of
high quality about their mode over that of real ones (0.97 after cutting at three): below it, modes are too narrow. One
figure per seed.

{table(head, rows)}

{pictures(found, names, "points", "the first seed's samples on real points")}"""


def digits_section(found: Runs) -> str:
    """Digits asked for, and digits among real ones."""
    names = [name for name in found if name.endswith("_digits") and found[name]]
    if not names:
        return ""
    rows = []
    for name in names:
        runs = [run["scores"] for run in found[name]]
        rows.append(
            [
                TITLES[name],
                str(len(runs)),
                "" if runs[0]["asked"] is None else each((100 * run["asked"] for run in runs), ".1f"),
                each((run["apart"]["accuracy"] for run in runs), ".2f"),
                each((run["spread"]["precision"] for run in runs), ".2f"),
                each((run["spread"]["recall"] for run in runs), ".2f"),
            ]
        )
    first = found[names[0]][0]["scores"]
    floor, spread = first["floor"], first["spread_floor"]
    rows.append(
        [
            "real digits",
            "1",
            f"{100 * first['judge']:.1f}",
            *(f"{x:.2f}" for x in (floor["accuracy"], *spread.values())),
        ]
    )
    head = ["", "seeds", "read as asked, %", "two-sample accuracy", "precision", "recall"]
    return f"""## Digits

scikit-learn's handwritten digits. A support vector machine that has learnt from the train split alone reads the
samples: 1000 per run, 100 of each class asked for. The two-sample test is a nearest neighbour's accuracy at telling
{floor["held_out"] // 2} samples from as many held-out digits: 0.50 is indistinguishable, and {floor["low"]:.2f} to
{floor["high"]:.2f} holds 95 % of the accuracies of sets that are (first row's counts). Precision and recall after
Kynkaanniemi et al. 2019, in pixels. The last row is what digits of the train split reach against held-out ones.
`cgan` works on 8 x 8 pixels, the others on 16 x 16. One figure per seed.

{table(head, rows)}

{pictures(found, names, "classes", "a row per class")}
{pictures(found, names, "grid", "samples")}"""


def enlargement_section(found: Runs) -> str:
    """Slices made small and enlarged."""
    names = [name for name in found if name.startswith("srgan_") and found[name]]
    if not names:
        return ""
    parts = []
    for name in names:
        scores = found[name][0]["scores"]
        rows = [
            [
                way,
                "" if s["psnr"] is None else f"{s['psnr']:.2f}",
                f"{s['ssim']:.3f}",
                f"{s['distance']['mean']:.4f} ({s['distance']['sd']:.4f})",
            ]
            for way, s in scores.items()
        ]
        parts.append(f"{TITLES[name]}:\n\n" + table(["", "PSNR, dB", "SSIM", "KID (sd)"], rows))
    tables = "\n\n".join(parts)
    return f"""## Super-resolution

256 slices of held-out bodies (64 x 64), made small, enlarged, and compared with themselves (PSNR, SSIM) and with 256
other real slices (KID, on features of a network that learnt tissues from real slices alone). "real" is the floor of
KID. One seed.

{tables}

{pictures(found, names, "pairs", "made small, cubic, enlarged, truth: as the recipe shows them")}"""


def translation_section(found: Runs) -> str:
    """Slices of one contrast as another, against the truth."""
    names = [name for name in TITLES if found.get(name) and isinstance(found[name][0]["scores"], list)]
    if not names:
        return ""
    rows = []
    for name in names:
        for score in found[name][0]["scores"]:
            tissues = score["by_tissue"]
            worst = ", ".join(f"{tissue} {tissues[tissue]:.0f}" for tissue in ("fat", "muscle", "cortical bone", "gas"))
            rows.append(
                [
                    f"{TITLES[name]} to {score['contrast'].upper()}",
                    f"{score['mae']:.1f}",
                    f"{score['lookup']:.1f}",
                    f"{score['one_value']:.1f}",
                    worst,
                ]
            )
    head = ["", "MAE in the body", "lookup table", "one value", "of it"]
    return f"""## Translation of slices

128 slices of held-out bodies against the same slices in the other contrast; HU for CT, the phantom's own units for MR
and T2. The lookup table and the one value are fitted on pairs of training bodies, which only pix2pix sees. One seed.

{table(head, rows)}

{_beside_pairs(found)}
{pictures(found, names, "pairs", "source, translation and what the recipe shows beside them, held-out bodies")}"""


def _beside_pairs(found: Runs) -> str:
    """CycleGAN's error beside that of pix2pix, for each target that both have."""

    def errors(*names: str) -> dict[str, float]:
        first = [found[name][0] for name in names if found.get(name)]
        return {score["contrast"]: score["mae"] for run in first for score in run["scores"]}

    mine, pairs = errors("cyclegan_slices"), errors("pix2pix_slices", "pix2pix_slices_back")
    both = [
        f"{100 * (mine[target] / pairs[target] - 1):.0f} % for {target.upper()}" for target in mine if target in pairs
    ]
    return f"CycleGAN's error exceeds that of pix2pix, which has pairs, by {' and '.join(both)}.\n" if both else ""


def slices_section(found: Runs) -> str:
    """How near StyleGAN2 comes to real slices over its training."""
    if not found.get("stylegan2_slices"):
        return ""
    scores = found["stylegan2_slices"][0]["scores"]
    rows = [[step, f"{one['mean']:.3f}", f"{one['sd']:.3f}"] for step, one in scores["curve"].items()]
    rows.append(["images learnt from", f"{scores['floor']['mean']:.3f}", f"{scores['floor']['sd']:.3f}"])
    return f"""## StyleGAN2 on 64 x 64 CT slices

KID of 512 samples from 512 slices of held-out bodies, on the features described above, over the training. One seed.

{table(["step", "KID", "sd over subsets"], rows)}

![KID over the training](gan2d/stylegan2_slices_kid.png)

{pictures(found, ["stylegan2_slices"], "grid", "samples")}
{pictures(found, ["stylegan2_slices"], "walk", "walks between latents")}"""


def films_section(found: Runs) -> str:
    """How samples move beside real films."""
    if not found.get("dvdgan_films"):
        return ""
    scores = found["dvdgan_films"][0]["scores"]
    rows = []
    for name, title in (("fake", "samples"), ("real", "held-out films"), ("learnt", "films learnt from")):
        one = scores[name]
        rows.append(
            [
                title,
                f"{one['change']:.4f}",
                ", ".join(f"{value:.3f}" for value in one["by_lag"]),
                ", ".join(f"{value:.2f}" for value in one["autocorrelation"]),
            ]
        )
    head = ["", "mean change", "change by lag", "autocorrelation by lag"]
    return f"""## Films

256 samples beside 256 films of held-out bodies. Change is the mean absolute difference of frames in [-1, 1]; the
Wasserstein-1 distance between the films' own mean changes is {scores["distance"]:.4f} for samples and
{scores["floor"]:.4f} for films that were learnt from. One seed.

{table(head, rows)}

{pictures(found, ["dvdgan_films"], "grid", "a film per row")}"""
