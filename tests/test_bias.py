"""N4: the brightness that a coil adds."""

import numpy as np

from medgan.data.bias import BiasCorrection, BiasField, find_bias


def test_a_field_is_stretched_linearly_over_the_image():
    field = BiasField(np.array([0.0, 1.0], dtype=np.float32).reshape(2, 1, 1), (2, 1, 1))
    assert field.on((4, 1, 2))[:, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    image = np.full((4, 1, 2), np.e, dtype=np.float32)
    assert np.allclose(field.divide(image)[2], 1.0)


def test_a_shaded_cylinder_becomes_even():
    x, y, _ = np.mgrid[:32, :32, :12]
    square = (x - 16) ** 2 + (y - 16) ** 2
    body, rim = square < 200, (square > 100) & (square < 200)
    rng = np.random.default_rng(0)
    true = np.where(square < 80, 500.0, 900.0) + rng.normal(0, 10, body.shape)
    shade = np.exp(0.25 * np.sin((x - 16) / 16) + 0.1 * (y - 16) / 16)
    image = np.where(body, true * shade, 5).astype(np.float32)
    options = BiasCorrection(iterations=20)
    field = find_bias(image, body, (6.0, 6.0, 6.0), options)
    flat = field.divide(image)

    def uneven(values):
        return values[rim].std() / values[rim].mean()

    assert uneven(image) > 0.1
    assert uneven(flat) < uneven(image) / 4
    assert abs(field.log_values[body].mean()) < 1e-3
    assert np.array_equal(find_bias(image, body, (6.0, 6.0, 6.0), options).log_values, field.log_values)


def test_nothing_to_look_at_gives_no_field():
    field = find_bias(np.zeros((16, 16, 4)), np.ones((16, 16, 4), bool), (1, 1, 1), BiasCorrection())
    assert not field.log_values.any()
