#include "base/file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>

#include "base/cache.h"
#include "base/path.h"
#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;

TEST_CASE("file: bytes by offset") {
    TempDirectory directory;
    const File file(directory.write("f", "0123456789"));
    CHECK(file.size() == 10);
    std::byte out[4];
    file.read(6, out, 4);
    CHECK(std::memcmp(out, "6789", 4) == 0);
    file.read(10, out, 0);
    CHECK(file.read_all(10) == "0123456789");
    check_refused([&] { file.read_all(9); }, {directory.path() + "/f: 10 bytes"});
    for (uint64_t offset : {uint64_t{7}, uint64_t{10}, uint64_t{11}, UINT64_MAX - 1, uint64_t{1} << 63})
        check_refused([&] { file.read(offset, out, 4); }, {directory.path() + "/f: truncated", std::to_string(offset)});
}

TEST_CASE("file: what is missing or no file is refused at once") {
    TempDirectory directory;
    check_refused([&] { File file(directory.path() + "/none"); }, {"/none: No such file or directory"});
    check_refused([&] { File file(directory.path()); }, {directory.path() + ": is a directory"});
#ifdef _WIN32
    check_refused([&] { File file(directory.write("f", "x") + "/g"); }, {"/f/g: No such file or directory"});
    check_refused([&] { File file("NUL"); }, {"NUL: is not a regular file"});
#else
    check_refused([&] { File file(directory.write("f", "x") + "/g"); }, {"/f/g: Not a directory"});
    check_refused([&] { File file(std::string(5000, 'x')); }, {"File name too long"});
    const std::string fifo = directory.path() + "/fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    check_refused([&] { File file(fifo); }, {"/fifo: is not a regular file"});
#endif
}

TEST_CASE("file: paths are UTF-8") {
    TempDirectory directory;
    const std::string name = "模型 é \U0001F680", folder = directory.path() + "/" + name, path = folder + "/" + name;
    std::filesystem::create_directory(to_path(folder));
    std::ofstream(to_path(path)) << "12345";
    CHECK(File(path).read_all(5) == "12345");
    CHECK(file_name(path) == name);
    CHECK(directory_of(path) == folder);
    CHECK(is_directory(folder));
    const std::vector<std::string> names = platform::names_in(folder);
    CHECK(std::count(names.begin(), names.end(), name) == 1);
    check_refused([&] { File file(path + "x"); }, {path + "x: No such file or directory"});
    check_refused([&] { File file(folder); }, {folder + ": is a directory, not a file"});
    const Cache cache(folder + "/" + name + "2/" + name);
    for (const char* value : {"first", "second"}) {
        cache.write("key", value);
        CHECK(cache.read("key") == value);
    }
    CHECK(platform::names_in(folder + "/" + name + "2/" + name).size() ==
          platform::names_in(folder + "/" + name + "2").size());  // the value's file, and no part of one
}

#ifdef _WIN32
TEST_CASE("cache: it lies in LOCALAPPDATA") {
    const std::string before = std::getenv("LOCALAPPDATA");
    _wputenv_s(L"LOCALAPPDATA", L"C:\\Users\\\u6a21\\Local");
    CHECK(Cache::user_directory() == "C:\\Users\\\u6a21\\Local\\libgptoss");
    _wputenv_s(L"LOCALAPPDATA", L"relative");
    CHECK(Cache::user_directory() == "");
    setenv("LOCALAPPDATA", before.c_str(), 1);
}
#endif

TEST_CASE("file: one that is truncated while it is open is an error") {
    TempDirectory directory;
    const std::string path = directory.write("f", std::string(10000, 'x'));
    const File file(path);
    std::filesystem::resize_file(path, 5000);
    std::vector<std::byte> out(10000);
    check_refused([&] { file.read(0, out.data(), 10000); }, {path + ": truncated while open", "5000"});
    file.read(0, out.data(), 5000);
}

TEST_CASE("a checkpoint whose file is truncated after it was opened is an error") {
    TempDirectory directory;
    const std::string path = directory.write("m.gguf", read_bytes(golden("tiny-bf16.gguf")));
    const Checkpoint checkpoint(path);
    std::filesystem::resize_file(path, 200000);
    CHECK_NOTHROW(checkpoint.embedding.read_f32());
    check_refused([&] { checkpoint.layers[3].k.read_f32(); }, {path, "truncated while open"});
    std::vector<std::byte> blocks(16 * 3), scales(3);
    check_refused([&] { checkpoint.layers[3].gate_up.read(7, 5, 1, blocks.data(), scales.data()); },
                  {path, "truncated"});
}

TEST_CASE("matrix: every type reads as its values") {
    TempDirectory directory;
    auto values = [&](DType type, const std::string& bytes, uint64_t n) {
        const File file(directory.write("m", "x" + bytes));
        return Matrix{"m", type, 1, n, &file, 1}.read_f32();
    };
    CHECK(values(DType::F32, raw(1.5f) + raw(-0.0f), 2) == std::vector{1.5f, -0.0f});
    CHECK(values(DType::BF16, raw(uint16_t{0x3fc0}) + raw(uint16_t{0xc000}), 2) == std::vector{1.5f, -2.0f});
    const std::vector<float> halves = values(DType::F16,
                                             raw(uint16_t{0x3e00}) + raw(uint16_t{0x8001}) + raw(uint16_t{0x03ff}) +
                                                 raw(uint16_t{0x7bff}) + raw(uint16_t{0xfc00}) + raw(uint16_t{0x7e00}),
                                             6);
    CHECK(halves[0] == 1.5f);
    CHECK(halves[1] == -0x1p-24f);
    CHECK(halves[2] == 1023 * 0x1p-24f);
    CHECK(halves[3] == 65504.0f);
    CHECK(halves[4] == -INFINITY);
    CHECK(std::isnan(halves[5]));
    std::string block = raw(uint16_t{0x3800});  // a scale of 0.5
    for (int i = 0; i < 32; i++) block += static_cast<char>(i - 16);
    const std::vector<float> q8 = values(DType::Q8_0, block, 32);
    CHECK(q8[0] == -8.0f);
    CHECK(q8[31] == 7.5f);
}

TEST_CASE("experts: many threads read one checkpoint") {
    const Checkpoint hf(golden("many-experts")), gguf(golden("tiny-bf16.gguf"));
    for (const Experts* e : {&hf.layers[0].gate_up, &gguf.layers[0].gate_up, &gguf.layers[1].down}) {
        const uint64_t row_blocks = e->blocks_per_row();
        auto read_all = [&](uint64_t step) {
            std::vector<std::byte> out(e->n_experts * e->rows * row_blocks * 17);
            std::byte *blocks = out.data(), *scales = out.data() + e->n_experts * e->rows * row_blocks * 16;
            for (uint64_t x = 0; x < e->n_experts; x++)
                for (uint64_t r = 0; r < e->rows; r += step) {
                    const uint64_t at = (x * e->rows + r) * row_blocks;
                    e->read(x, r, std::min(step, e->rows - r), blocks + 16 * at, scales + at);
                }
            return out;
        };
        std::vector<std::vector<std::byte>> results(4);
        std::vector<std::thread> threads;
        for (size_t i = 0; i < results.size(); i++) threads.emplace_back([&, i] { results[i] = read_all(2 * i + 1); });
        for (std::thread& t : threads) t.join();
        for (const auto& result : results) CHECK(result == read_all(e->rows));
    }
}
