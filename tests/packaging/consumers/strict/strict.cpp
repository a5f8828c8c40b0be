// The header in a program without exceptions, and what it does for one.
#include <gptoss.hpp>

#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    gptoss::Context context{gptoss::Model(argv[1])};
    const std::vector<uint32_t> prompt = {5, 400, 17};
    context.append(prompt);
    gptoss::GenerateOptions options;
    options.max_tokens = 3;
    options.stop_tokens.emplace();
    std::size_t tokens = 0;
    const gptoss::Generated generated = context.generate([&](uint32_t) { tokens++; }, options);
    std::vector<float> logits(8);
    context.logits(logits);
    const bool right = tokens == 3 && generated.num_tokens == 3 && context.save().size() > 0;
    std::puts(right ? "ok" : "wrong");
    return right ? 0 : 1;
}
