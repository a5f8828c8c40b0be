// Beginnings of timelines that were computed, for whoever comes to have the same: a context that goes back further than
// its ring does, and contexts whose prompts begin alike, also after the one that computed them is gone. Bounded; those
// used least recently go first, all of them where memory is needed for anything else.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/kv_pages.h"

namespace gptoss::model {

struct Prefix {
    uint64_t adapter = 0;  // whose it is; see Attachment::key
    std::vector<uint32_t> tokens;
    std::vector<Page> segments;
    Window window;  // of all the tokens
};

// From any thread.
class PrefixCache {
  public:
    using Ref = std::shared_ptr<const Prefix>;

    // limit: device memory of pages that nobody else holds, bytes.
    explicit PrefixCache(uint64_t limit) : limit_(limit) {}

    // The one that saves the most of computing `tokens` with that adapter, and how many of these; NULL and 0 if there
    // is none. A sequence can go to that many with the prefix's window.
    struct Found {
        Ref prefix;
        uint32_t position = 0;
    };
    Found find(std::span<const uint32_t> tokens, uint64_t adapter, const KvPages& pages);
    // Whether such a prefix is there; it then counts as used.
    bool has(std::span<const uint32_t> tokens, uint64_t adapter);
    void add(Prefix prefix);
    // Those of which the tokens are a continuation, the shortest first.
    std::vector<Ref> beginnings(std::span<const uint32_t> tokens, uint64_t adapter);

    uint64_t limit() const { return limit_; }
    // Device memory of pages that nobody else holds, bytes.
    uint64_t bytes();
    // Lets go one; false if there is none.
    bool evict() noexcept;
    // Keeps to the limit once others may have let pages go.
    void trim() noexcept;

  private:
    struct Entry {
        uint64_t hash;  // of all tokens except the last: a prefix is of use to whoever has those
        Ref prefix;
    };

    // How many of the entries hold a page.
    struct Use {
        std::weak_ptr<const KvPool::Page> page;
        long entries = 0;
    };

    bool evict_locked() noexcept;
    void trim_locked() noexcept;
    uint64_t bytes_locked() const noexcept;

    const uint64_t limit_;
    std::mutex mutex_;
    std::list<Entry> entries_;  // the one used last is first
    std::unordered_map<const KvPool::Page*, Use> uses_;
};

}  // namespace gptoss::model
