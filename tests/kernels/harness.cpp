#include "kernels/harness.h"

#include <cstdlib>
#include <memory>

#include "at_end.h"

namespace gptoss::test {

Gpu::Gpu() : device(vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"))), kernels(device), commands(device, kernels) {}

namespace {

std::unique_ptr<Gpu> the_gpu;

}  // namespace

Gpu& gpu() {
    if (!the_gpu) {
        the_gpu = std::make_unique<Gpu>();
        at_end().push_back([] { the_gpu.reset(); });
    }
    return *the_gpu;
}

uint64_t Random::seed() {
    static const uint64_t chosen = [] {
        const char* given = std::getenv("GPTOSS_TEST_SEED");
        return given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    }();
    return chosen;
}

double from_f16(uint16_t bits) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<double>(half);
}

uint16_t to_f16(double value) {
    const _Float16 half = static_cast<_Float16>(value);
    uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}

namespace {

// Writes one value of a matrix, and returns it as it is stored.
class Packer {
  public:
    Packer(Random& random, uint32_t rows, uint32_t cols, uint32_t weight)
        : random_(random), weight_(weight), chunks_((cols + 127) / 128) {
        switch (weight) {
            case WEIGHT_F32:
                tile_bytes_ = cols / 4 * 1024;
                break;
            case WEIGHT_Q8:
                tile_bytes_ = chunks_ * 512 + cols / 16 * 1024;
                break;
            case WEIGHT_MXFP4:
                tile_bytes_ = chunks_ * 256 + cols / 32 * 1024;
                break;
            default:
                tile_bytes_ = cols / 8 * 1024;
        }
        bytes_.resize(size_t{tile_count(rows)} * tile_bytes_);
    }

    double put(uint32_t row, uint32_t col) {
        const size_t tile = size_t{row / 64} * tile_bytes_;
        const uint32_t r = row % 64, in_chunk = col % 128;
        if (weight_ == WEIGHT_F32) {
            const float v = random_.normal();
            std::memcpy(&bytes_[tile + col / 4 * 1024 + r * 16 + col % 4 * 4], &v, 4);
            return v;
        }
        if (weight_ == WEIGHT_F16 || weight_ == WEIGHT_BF16) {
            const size_t at = tile + col / 8 * 1024 + r * 16 + col % 8 * 2;
            const float v = random_.normal();
            if (weight_ == WEIGHT_F16) return from_f16(put16(at, to_f16(v)));
            uint32_t bits;
            std::memcpy(&bits, &v, 4);
            bits &= 0xffff0000u;
            put16(at, static_cast<uint16_t>(bits >> 16));
            float stored;
            std::memcpy(&stored, &bits, 4);
            return stored;
        }
        if (weight_ == WEIGHT_Q8) {
            const size_t chunk = tile + col / 128 * (512 + 8 * 1024), scale_at = chunk + r * 8 + in_chunk / 32 * 2;
            if (col % 32 == 0) scale_ = from_f16(put16(scale_at, to_f16(random_.normal(0.01))));
            const int8_t v = static_cast<int8_t>(static_cast<int>(random_.below(256)) - 128);
            bytes_[chunk + 512 + in_chunk / 16 * 1024 + r * 16 + col % 16] = static_cast<uint8_t>(v);
            return v * scale_;
        }
        const size_t chunk = tile + col / 128 * (256 + 4 * 1024);
        if (col % 32 == 0) {
            const uint8_t exponent = static_cast<uint8_t>(120 + random_.below(10));
            bytes_[chunk + r * 4 + in_chunk / 32] = exponent;
            scale_ = std::ldexp(1.0, exponent - 127);
        }
        static const double e2m1[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
        const uint32_t code = random_.below(16);
        bytes_[chunk + 256 + in_chunk / 32 * 1024 + r * 16 + col % 32 / 2] |=
            static_cast<uint8_t>(code << (col % 2 * 4));
        return (code & 8 ? -1 : 1) * e2m1[code & 7] * scale_;
    }

    std::vector<uint32_t> words() const {
        std::vector<uint32_t> w(bytes_.size() / 4);
        std::memcpy(w.data(), bytes_.data(), bytes_.size());
        return w;
    }

  private:
    uint16_t put16(size_t at, uint16_t bits) {
        std::memcpy(&bytes_[at], &bits, 2);
        return bits;
    }

    Random& random_;
    uint32_t weight_, chunks_;
    size_t tile_bytes_ = 0;
    double scale_ = 0;  // of the block of 32 at hand
    std::vector<uint8_t> bytes_;
};

}  // namespace

Matrix random_matrix(Random& random, uint32_t rows, uint32_t cols, uint32_t weight) {
    Matrix m{rows, cols, std::vector<double>(size_t{rows} * cols), {}};
    Packer packer(random, rows, cols, weight);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++) m.values[size_t{r} * cols + c] = packer.put(r, c);
    m.tiles = packer.words();
    return m;
}

void check_close(const std::vector<float>& got, const std::vector<Exact>& expected, double tolerance) {
    REQUIRE(got.size() == expected.size());
    size_t worst = 0, bad = 0;
    double worst_error = 0;
    for (size_t i = 0; i < got.size(); i++) {
        const double error = std::abs(got[i] - expected[i].value) / (expected[i].magnitude + 1e-30);
        bad += !(error <= tolerance);
        if (!(error <= worst_error)) {
            worst = i;
            worst_error = error;
        }
    }
    INFO("seed ", Random::seed(), ": ", bad, " of ", got.size(), " are off, the worst at ", worst, ": got ", got[worst],
         ", expected ", expected[worst].value, ", error ", worst_error, " of the magnitude, allowed ", tolerance);
    CHECK(bad == 0);
}

namespace {

constexpr float kEps = 1e-5f;

// Sums of squares of each tile of 64 columns, zeros after the last.
std::vector<float> tile_squares(const std::vector<float>& x, uint32_t n_tokens, uint32_t cols) {
    const uint32_t n = square_count(cols);
    std::vector<double> sums(size_t{n_tokens} * n);
    for (size_t i = 0; i < x.size(); i++) sums[i / cols * n + i % cols / 64] += double{x[i]} * x[i];
    return {sums.begin(), sums.end()};
}

}  // namespace

NormedInput::NormedInput(Random& random, uint32_t tokens, uint32_t cols)
    : n_tokens(tokens),
      n_cols(cols),
      n_squares(square_count(cols)),
      x(size_t{tokens} * cols),
      squares(size_t{tokens} * n_squares) {
    const std::vector<float> residual = random.normals(size_t{tokens} * cols, 3), norm = random.normals(cols);
    for (size_t i = 0; i < residual.size(); i++) values.push_back(residual[i] * norm[i % cols]);
    for (uint32_t t = 0; t < tokens; t++) {
        double sum = 0;
        for (uint32_t c = 0; c < cols; c++) sum += std::pow(double{residual[size_t{t} * cols + c]}, 2);
        scales.push_back(1 / std::sqrt(sum / cols + double{kEps}));
    }
    x = Array<float>(values);
    squares = Array<float>(tile_squares(residual, tokens, cols));
}

args::Input NormedInput::args() const { return {x.address(), squares.address(), n_squares, n_cols, n_tokens, kEps}; }

ResidualOutput::ResidualOutput(Random& random, uint32_t tokens, uint32_t width)
    : n_tokens(tokens),
      hidden(width),
      n_squares(square_count(width)),
      before(random.normals(size_t{tokens} * width)),
      norm_values(random.normals(width)),
      x(before),
      normed(size_t{tokens} * width),
      squares(size_t{tokens} * n_squares),
      norm(norm_values) {}

args::Residual ResidualOutput::args() const {
    return {x.address(), normed.address(), squares.address(), norm.address(), hidden, n_squares};
}

void ResidualOutput::check(const std::vector<Exact>& after, double tolerance) const {
    const std::vector<float> got = x.read(), got_squares = squares.read();
    check_close(got, after, tolerance);
    // what follows from the new residual must be right to the last bits, whatever the residual is
    std::vector<Exact> product(got.size());
    for (size_t i = 0; i < got.size(); i++) product[i].add(double{got[i]} * norm_values[i % hidden]);
    check_close(normed.read(), product, 0x1p-23);
    std::vector<Exact> sums(size_t{n_tokens} * n_squares);
    for (size_t i = 0; i < got.size(); i++)
        sums[i / hidden * n_squares + i % hidden / 64].add(std::pow(double{got[i]}, 2));
    for (uint32_t t = 0; t < n_tokens; t++)
        check_close({got_squares.begin() + t * n_squares, got_squares.begin() + t * n_squares + tile_count(hidden)},
                    {sums.begin() + t * n_squares, sums.begin() + t * n_squares + tile_count(hidden)},
                    sum_tolerance(64));
}

}  // namespace gptoss::test
