// How fast the built-in tokenizer is. bench_text FILE: creation, encoding and decoding of a file. bench_text --hostile:
// growth with the length of texts that are hard to tokenize. bench_text --tokens FILE: the file's tokens, as 32-bit
// little-endian numbers on stdout; with --special, special tokens are recognised.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <gptoss.hpp>
#include <iterator>
#include <string>
#include <vector>

// Processor time of this process, which other programs do not disturb, seconds.
static double now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// The peak resident memory of this process so far, bytes.
static size_t peak_memory() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("VmHWM:", 0) == 0) return std::stoul(line.substr(6)) * 1024;
    return 0;
}

// The best of a few runs into the same memory, seconds.
static double time_encode(const gptoss::Tokenizer& tokenizer, const std::string& text) {
    double best = 1e9;
    std::vector<uint32_t> tokens(text.size());
    size_t count = 0;
    for (int run = 0; run < 5; ++run) {
        const double start = now();
        gptoss::check(gptoss_tokenizer_encode(tokenizer.get(), text.data(), text.size(), 0, tokens.data(),
                                              tokens.size(), &count));
        best = std::min(best, now() - start);
    }
    return best;
}

static void bench_file(const gptoss::Tokenizer& tokenizer, const std::string& text) {
    const double seconds = time_encode(tokenizer, text);
    const std::vector<uint32_t> tokens = tokenizer.encode(text);
    std::string back(text.size(), '\0');
    size_t size = 0;
    const double start = now();
    gptoss::check(
        gptoss_tokenizer_decode_tokens(tokenizer.get(), tokens.data(), tokens.size(), back.data(), back.size(), &size));
    const double decode = now() - start;
    if (size != text.size() || back != text) {
        std::fprintf(stderr, "the decoded text differs\n");
        std::exit(1);
    }
    std::printf("encode: %.1f MB/s, %zu bytes, %zu tokens\n", text.size() / seconds / 1e6, text.size(), tokens.size());
    std::printf("decode: %.1f MB/s\n", text.size() / decode / 1e6);
}

static int bench_hostile(const gptoss::Tokenizer& tokenizer) {
    static const struct {
        const char *name, *unit;
    } texts[] = {{"one letter", "a"},
                 {"capitals", "A"},
                 {"spaces", " "},
                 {"newlines", "\n"},
                 {"emoji", "\xF0\x9F\x99\x82"},
                 {"digits", "7"},
                 {"punctuation", "!"},
                 {"two letters", "ab"},
                 {"space, newline", " \n"},
                 {"Chinese", "\xE4\xBD\xA0"},
                 {"no UTF-8", "\xFF"},
                 {"marks", "e\xCC\x81"},
                 {"apostrophes", "'s"},
                 {"half a special token", "<|"}};
    int failed = 0;
    for (auto& [name, unit] : texts) {
        double seconds[2];
        for (int i = 0; i < 2; ++i) {
            std::string text;
            while (text.size() < (i + 1) * (i + 1) * 1000000u) text += unit;
            seconds[i] = time_encode(tokenizer, text);
        }
        // 4 is linear and 16 is square; caches and a slow moment of the machine take linear past 5
        const double growth = seconds[1] / seconds[0];
        failed += growth > 8;
        std::printf("%-22s 1 MB %7.1f ms, 4 MB %7.1f ms, growth %.2f%s\n", name, seconds[0] * 1e3, seconds[1] * 1e3,
                    growth, growth > 8 ? ": not linear" : "");
    }
    return failed;
}

int main(int argc, char** argv) {
    CLI::App app{"Measures the built-in tokenizer"};
    std::string path;
    bool tokens_only = false, special = false, hostile = false;
    app.add_option("file", path, "the text")->check(CLI::ExistingFile);
    app.add_flag("--tokens", tokens_only, "write the tokens to stdout, measure nothing");
    app.add_flag("--special", special, "recognise special tokens");
    app.add_flag("--hostile", hostile, "measure texts that are hard to tokenize");
    CLI11_PARSE(app, argc, argv);

    const size_t before = peak_memory();
    const double start = now();
    const gptoss::Tokenizer tokenizer;
    const double create = now() - start;
    const size_t memory = peak_memory() - before;

    int result = 0;
    std::string text;
    if (!path.empty()) {
        std::ifstream file(path, std::ios::binary);
        text.assign(std::istreambuf_iterator<char>(file), {});
    }
    if (tokens_only) {
        for (uint32_t token : tokenizer.encode(text, special)) std::fwrite(&token, sizeof token, 1, stdout);
    } else {
        std::printf("create: %.1f ms, %.1f MB\n", create * 1e3, memory / 1e6);
        if (!text.empty()) bench_file(tokenizer, text);
        if (hostile) result = bench_hostile(tokenizer);
    }
    return result;
}
