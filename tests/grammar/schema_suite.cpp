// JSON-Schema-Test-Suite: schema_suite DRAFT_FOLDER REFUSED_LIST. Every group passes, or is refused by name and then
// stands in the list, with nothing else in it. Instances are given in the order of the schema's properties, which is
// the order that grammars allow.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "text/grammar/grammar.h"

using namespace gptoss;
using Json = nlohmann::ordered_json;

// The same value with each object's members in every order, up to a number of them: objects of these tests are small.
static std::vector<Json> orders(const Json& value) {
    if (!value.is_structured() || value.empty()) return {value};
    std::vector<std::vector<std::pair<std::string, Json>>> made = {{}};
    for (auto child = value.begin(); child != value.end(); ++child) {
        std::vector<std::vector<std::pair<std::string, Json>>> next;
        for (const auto& before : made)
            for (const Json& one : orders(*child)) {
                if (next.size() >= 64) break;
                next.push_back(before);
                next.back().emplace_back(value.is_object() ? child.key() : "", one);
            }
        made = std::move(next);
    }
    std::vector<Json> out;
    for (auto& members : made) {
        if (value.is_array()) {
            out.push_back(Json::array());
            for (auto& member : members) out.back().push_back(member.second);
            continue;
        }
        std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        do {
            out.push_back(Json::object());
            for (auto& member : members) out.back()[member.first] = member.second;
        } while (out.size() < 200 &&
                 std::next_permutation(members.begin(), members.end(),
                                       [](const auto& a, const auto& b) { return a.first < b.first; }));
    }
    return out;
}

static bool accepts(const std::shared_ptr<const text::Grammar>& grammar, const std::string& text) {
    text::GrammarState state(grammar);
    for (text::Token token : grammar->table().tokenizer()->encode(text, false))
        if (!state.advance(token)) return false;
    return state.accepts();
}

int main(int argc, char** argv) {
    if (argc != 3) return std::fprintf(stderr, "usage: schema_suite DRAFT_FOLDER REFUSED_LIST\n"), 2;
    const auto table = std::make_shared<const text::TokenTable>(text::Tokenizer::o200k_harmony());
    const std::string draft = std::filesystem::path(argv[1]).filename().string();
    std::set<std::string> listed, refused;
    std::ifstream list(argv[2]);
    for (std::string line; std::getline(list, line);)
        if (!line.empty() && line[0] != '#') listed.insert(line);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
        if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    size_t groups = 0, failed = 0, tests = 0;
    for (const auto& file : files) {
        std::ostringstream content;
        content << std::ifstream(file).rdbuf();
        for (const Json& group : Json::parse(content.str())) {
            ++groups;
            const std::string name = file.stem().string() + ": " + group["description"].get<std::string>();
            Json schema = group["schema"];
            if (schema.is_object() && !schema.contains("$schema"))
                schema["$schema"] = draft == "draft2020-12"
                                        ? "https://json-schema.org/draft/2020-12/schema"
                                        : "http://json-schema.org/draft-0" + draft.substr(5) + "/schema#";
            std::shared_ptr<const text::Grammar> grammar;
            bool nothing_matches = false;
            try {
                grammar = text::Grammar::from_json_schema(table, schema.dump());
            } catch (const Error& error) {
                nothing_matches = error.status() == Status::InvalidArgument &&
                                  std::string(error.what()).find("no finite text") != std::string::npos;
                if (!nothing_matches) {
                    refused.insert(name);
                    if (!listed.contains(name))
                        std::printf("%s: refused, which is not listed: %s\n", name.c_str(), error.what()), ++failed;
                    continue;
                }
            }
            for (const Json& test : group["tests"]) {
                ++tests;
                bool accepted = false;
                for (const Json& order : nothing_matches ? std::vector<Json>{} : orders(test["data"]))
                    accepted = accepted || accepts(grammar, order.dump());
                if (accepted == test["valid"].get<bool>()) continue;
                ++failed;
                std::printf("%s: %s: %s %s\n", name.c_str(), test["description"].get<std::string>().c_str(),
                            accepted ? "wrongly accepted" : "wrongly rejected",
                            test["data"].dump().substr(0, 100).c_str());
            }
        }
    }
    for (const std::string& name : listed)
        if (!refused.contains(name)) std::printf("%s: listed as refused, but is not\n", name.c_str()), ++failed;
    std::printf("%zu groups, %zu of them refused by name, %zu tests, %zu failures\n", groups, refused.size(), tests,
                failed);
    std::printf("%zu passed, %zu failed\n", groups - std::min(groups, failed), failed);
    return failed == 0 && groups > 0 ? 0 : 1;
}
