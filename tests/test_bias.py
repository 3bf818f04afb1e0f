"""N4: the brightness that a coil adds."""

import numpy as np

from medgan.data.bias import BiasCorrection, BiasField, find_bias


def test_a_field_is_stretched_linearly_over_the_image():
    field = BiasField(np.array([0.0, 1.0], dtype=np.float32).reshape(2, 1, 1), (2, 1, 1))
    assert field.on((4, 1, 2))[:, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    image = np.full((4, 1, 2), np.e, dtype=np.float32)
    assert np.allclose(field.divide(image)[2], 1.0)


def test_a_shaded_cylinder_becomes_even():
    x, y, _ = np.mgrid[:48, :48, :12]
    body = (x - 24) ** 2 + (y - 24) ** 2 < 400
    rng = np.random.default_rng(0)
    true = np.where((x - 24) ** 2 + (y - 24) ** 2 < 150, 500.0, 900.0) + rng.normal(0, 10, body.shape)
    shade = np.exp(0.5 * np.sin((x - 24) / 24) + 0.2 * (y - 24) / 24)
    image = np.where(body, true * shade, 5).astype(np.float32)
    field = find_bias(image, body, (4.0, 4.0, 4.0), BiasCorrection())
    flat = field.divide(image)
    rim = body & ((x - 24) ** 2 + (y - 24) ** 2 > 200)

    def uneven(values):
        return values[rim].std() / values[rim].mean()

    assert uneven(image) > 0.25
    assert uneven(flat) < uneven(image) / 4
    assert abs(field.log_values[body].mean()) < 1e-3
    assert np.array_equal(find_bias(image, body, (4.0, 4.0, 4.0), BiasCorrection()).log_values, field.log_values)


def test_nothing_to_look_at_gives_no_field():
    field = find_bias(np.zeros((16, 16, 4)), np.ones((16, 16, 4), bool), (1, 1, 1), BiasCorrection())
    assert not field.log_values.any()
