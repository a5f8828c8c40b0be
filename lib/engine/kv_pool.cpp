#include "engine/kv_pool.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace gptoss::model {

namespace {

// A new block has one page for so many that there are: few allocations, and little memory that nobody uses.
constexpr uint64_t kPagesPerNew = 64;

uint64_t rounded(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

KvPool::KvPool(const vk::Device& device, const vk::Pipelines& pipelines, std::function<bool()> give_up)
    : device_(device), give_up_(std::move(give_up)), copies_(device, pipelines) {}

KvPool::~KvPool() = default;

KvPool::Page::~Page() {
    if (block_) pool_->give_back(*block_, index_);
}

const vk::Buffer& KvPool::Page::buffer() const { return block_->buffer; }
uint64_t KvPool::Page::offset() const { return index_ * block_->page_bytes; }
uint64_t KvPool::Page::size() const { return block_->page_bytes; }

KvPool::PageRef KvPool::take(uint64_t bytes, const char* what) {
    for (;;) try {
            return try_take(bytes, what);
        } catch (const Error& e) {
            if (e.status() != Status::InsufficientMemory || !give_up_()) throw;
        }
}

KvPool::PageRef KvPool::try_take(uint64_t bytes, const char* what) {
    const auto page = std::make_shared<Page>();
    const std::lock_guard lock(mutex_);
    Block& block = block_with_room(rounded(bytes), what);
    page->pool_ = this;
    page->block_ = &block;
    page->index_ = block.free.back();
    block.free.pop_back();
    return page;
}

KvPool::Block& KvPool::block_with_room(uint64_t page_bytes, const char* what) {
    Kind& kind = kinds_[page_bytes];
    for (const auto& block : kind.blocks)
        if (!block->free.empty()) return *block;
    const auto add = [&](uint64_t n) -> Block& {
        auto block = std::make_unique<Block>();
        block->page_bytes = page_bytes;
        block->n_pages = static_cast<uint32_t>(n);
        for (uint32_t i = block->n_pages; i > 0; i--) block->free.push_back(i - 1);
        kind.blocks.reserve(kind.blocks.size() + 1);
        block->buffer = vk::Buffer(device_, n * page_bytes, vk::Memory::Device, what);
        kind.n_pages += n;
        kind.blocks.push_back(std::move(block));
        return *kind.blocks.back();
    };
    const uint64_t most = std::max<uint64_t>(1, device_.info().max_allocation / page_bytes);
    const uint64_t n = std::clamp<uint64_t>(kind.n_pages / kPagesPerNew, 1, most);
    try {
        return add(n);
    } catch (const Error& e) {
        if (n == 1 || e.status() != Status::InsufficientMemory) throw;
    }
    return add(1);
}

void KvPool::give_back(Block& block, uint32_t index) noexcept {
    const std::lock_guard lock(mutex_);
    block.free.push_back(index);
    if (block.free.size() < block.n_pages) return;
    Kind& kind = kinds_.find(block.page_bytes)->second;
    kind.n_pages -= block.n_pages;
    std::erase_if(kind.blocks, [&](const auto& b) { return b.get() == &block; });
}

void KvPool::copy(const std::function<void(vk::Commands&)>& record) {
    const std::lock_guard lock(copy_mutex_);
    copies_.begin();
    copies_.barrier();
    record(copies_);
    copies_.finish();
}

uint64_t KvPool::footprint(uint64_t page_bytes, uint64_t count) {
    uint64_t bytes = 0;
    for (uint64_t n = 0, step; n < count; n += step) {
        step = std::max<uint64_t>(1, n / kPagesPerNew);
        bytes += vk::Buffer::footprint(step * rounded(page_bytes));
    }
    return page_bytes == 0 ? 0 : bytes;
}

}  // namespace gptoss::model
