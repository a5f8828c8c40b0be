// gptoss-download: a model from the Hugging Face hub.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "../version.h"
#include "download.h"

int main(int argc, char** argv) {
    CLI::App app(
        "Downloads a model from the Hugging Face hub: of a repository only the files that it takes to run it. What is "
        "there already is checked and kept, what was interrupted goes on. The last line says where it is.\n"
        "Environment: GPTOSS_MODELS, HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY and the others that curl knows.");
    app.name("gptoss-download");
    app.set_version_flag("--version", version_line);
    std::string repository, folder, revision;
    bool quiet = false, only_list = false;
    try {
        hub::Settings settings = hub::Settings::from_environment();
        app.add_option("REPO", repository,
                       "OWNER/NAME, such as openai/gpt-oss-20b; OWNER/NAME/FILE.gguf where it has several models")
            ->required();
        app.add_option(
            "--local-dir", folder,
            "Folder for the files (default: OWNER/NAME in GPTOSS_MODELS or ~/.cache/libgptoss/models, where the chat "
            "and the server find it as hf:OWNER/NAME)");
        app.add_option("--revision", revision, "Branch, tag or commit (default: main)");
        app.add_option("--parallel", settings.parallel, "Files at once (default: 4)")->check(CLI::Range(1, 64));
        app.add_option("--retries", settings.retries,
                       "Attempts after one that failed, as long as no byte comes (default: 5)")
            ->check(CLI::Range(0, 1000));
        app.add_option("--timeout", settings.timeout,
                       "Seconds without a byte after which a connection is tried again (default: 60)")
            ->check(CLI::Range(1, 86400));
        app.add_flag("--list", only_list, "List the files that are needed and leave");
        app.add_flag("-q,--quiet", quiet, "Show no progress");
        try {
            app.parse(argc, argv);
        } catch (const CLI::ParseError& e) {
            return app.exit(e);
        }
        const hub::Name name = hub::Name::parse(repository + (revision.empty() ? "" : "@" + revision));
        std::atomic<bool> stop = false;
        hub::Connection connection(settings, stop,
                                   [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
        const hub::Listing listing = hub::list(connection, name);
        const hub::Needed needed = hub::needed(listing, name);
        if (only_list) {
            for (const auto* files : {&needed.small, &needed.weights})
                for (const hub::File& file : *files)
                    std::printf("%12llu  %s\n", static_cast<unsigned long long>(file.size), file.path.c_str());
            return 0;
        }
        if (!quiet)
            std::fprintf(stderr, "%s: %s in %zu files\n", name.text().c_str(), hub::size_text(needed.bytes()).c_str(),
                         needed.count());
        const std::filesystem::path to = folder.empty() ? hub::cache_folder(name) : std::filesystem::path(folder);
        std::printf("%s\n", hub::download(settings, name, listing, to, quiet).c_str());
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "gptoss-download: %s\n", e.what());
        return 1;
    }
}
