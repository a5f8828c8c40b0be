// Models on the Hugging Face hub: which files a repository has, which of them a model needs, and where they are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "transfer.h"

namespace hub {

// OWNER/NAME, OWNER/NAME/FILE.gguf where a repository has several models, either with @REVISION and hf: before it.
struct Name {
    std::string repository, file, revision = "main";

    // Throws std::runtime_error for what is no such name.
    static Name parse(const std::string& text);
    std::string text() const;
};

struct File {
    std::string path;  // in the repository, and in the folder that it is downloaded to; checked to stay in it
    uint64_t size = 0;
    std::string sha256;  // hexadecimal, of a large file
    std::string git_id;  // of the others: the SHA-1 that git knows them by
};

struct Listing {
    std::string commit;  // the revision's, so that all files are of one
    std::vector<File> files;
};

// Throws std::runtime_error for a repository or revision that is not there, and for names that would leave a folder.
Listing list(Connection& connection, const Name& name);

struct Needed {
    std::vector<File> small, weights;  // the first say which of the others are needed
    std::string model;                 // what to load, of the folder; "" for the folder itself

    uint64_t bytes() const;
    size_t count() const { return small.size() + weights.size(); }
};

// A Hugging Face checkpoint's configuration, tokenizer and .safetensors files, or one GGUF model. Throws where there is
// no model, or several.
Needed needed(const Listing& listing, const Name& name);

// The folder that a model is downloaded to where no other is named: OWNER/NAME in the folder GPTOSS_MODELS, or else in
// libgptoss/models in the user's cache.
std::filesystem::path cache_folder(const Name& name);

// "13.8 GB"
std::string size_text(uint64_t bytes);

}  // namespace hub
