#include "engine/prefix_cache.h"

#include <algorithm>

namespace gptoss::model {

namespace {

constexpr size_t kMaxEntries = 1024;  // their tokens take host memory too

// Returns the hashes of the first 0, 1, … tokens of a sequence with that adapter.
std::vector<uint64_t> hashes_of(std::span<const uint32_t> tokens, uint64_t adapter) {
    std::vector<uint64_t> hashes{adapter};
    hashes.reserve(tokens.size() + 1);
    for (const uint32_t token : tokens) {
        uint64_t hash = (hashes.back() ^ token) * 0x9e3779b97f4a7c15;
        hashes.push_back(hash ^ hash >> 29);
    }
    return hashes;
}

template <typename F>
void for_pages(const Prefix& prefix, const F& f) {
    for (const Page& page : prefix.segments) f(page);
    if (prefix.window.page) f(prefix.window.page);
}

}  // namespace

PrefixCache::Found PrefixCache::find(std::span<const uint32_t> tokens, uint64_t adapter, const KvPages& pages) {
    const std::vector<uint64_t> hashes = hashes_of(tokens, adapter);
    const std::lock_guard lock(mutex_);
    Found best;
    auto at = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        const std::vector<uint32_t>& have = entry->prefix->tokens;
        if (entry->prefix->adapter != adapter) continue;
        if (have.size() - 1 > tokens.size() || entry->hash != hashes[have.size() - 1]) continue;
        const auto same = std::mismatch(have.begin(), have.end(), tokens.begin(), tokens.end()).first - have.begin();
        const auto position = static_cast<uint32_t>(same);
        if (position <= best.position || !pages.reaches(entry->prefix->window, position)) continue;
        best = {entry->prefix, position};
        at = entry;
    }
    if (best.prefix) entries_.splice(entries_.begin(), entries_, at);
    return best;
}

bool PrefixCache::has(std::span<const uint32_t> tokens, uint64_t adapter) {
    const uint64_t hash = hashes_of(tokens.first(tokens.size() - 1), adapter).back();
    const std::lock_guard lock(mutex_);
    const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) {
        return e.hash == hash && e.prefix->adapter == adapter && std::ranges::equal(e.prefix->tokens, tokens);
    });
    if (at == entries_.end()) return false;
    entries_.splice(entries_.begin(), entries_, at);
    return true;
}

void PrefixCache::add(Prefix prefix) {
    const uint64_t hash = hashes_of(std::span(prefix.tokens).first(prefix.tokens.size() - 1), prefix.adapter).back();
    const std::lock_guard lock(mutex_);
    try {
        for_pages(prefix, [&](const Page& page) { uses_.try_emplace(page.get(), Use{page}); });
        entries_.push_front({hash, std::make_shared<const Prefix>(std::move(prefix))});
    } catch (...) {
        std::erase_if(uses_, [](const auto& use) { return use.second.entries == 0; });
        throw;
    }
    for_pages(*entries_.front().prefix, [&](const Page& page) { uses_.find(page.get())->second.entries++; });
    trim_locked();
}

std::vector<PrefixCache::Ref> PrefixCache::beginnings(std::span<const uint32_t> tokens, uint64_t adapter) {
    const std::vector<uint64_t> hashes = hashes_of(tokens, adapter);
    std::vector<Ref> found;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [hash, prefix] : entries_) {
            const std::vector<uint32_t>& have = prefix->tokens;
            if (prefix->adapter == adapter && have.size() <= tokens.size() && hash == hashes[have.size() - 1] &&
                std::ranges::equal(have, tokens.first(have.size())))
                found.push_back(prefix);
        }
    }
    std::ranges::sort(found, {}, [](const Ref& prefix) { return prefix->tokens.size(); });
    return found;
}

uint64_t PrefixCache::bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_locked();
}

uint64_t PrefixCache::bytes_locked() const noexcept {
    uint64_t sum = 0;
    for (const auto& [page, use] : uses_)
        if (use.page.use_count() == use.entries) sum += page->size();
    return sum;
}

bool PrefixCache::evict() noexcept {
    const std::lock_guard lock(mutex_);
    return evict_locked();
}

bool PrefixCache::evict_locked() noexcept {
    if (entries_.empty()) return false;
    for_pages(*entries_.back().prefix, [&](const Page& page) {
        const auto use = uses_.find(page.get());
        if (--use->second.entries == 0) uses_.erase(use);
    });
    entries_.pop_back();
    return true;
}

void PrefixCache::trim() noexcept {
    const std::lock_guard lock(mutex_);
    trim_locked();
}

void PrefixCache::trim_locked() noexcept {
    while (entries_.size() > kMaxEntries || bytes_locked() > limit_)
        if (!evict_locked()) break;
}

}  // namespace gptoss::model
