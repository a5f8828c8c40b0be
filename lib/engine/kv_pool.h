// Device memory for what sequences hold, in pages of a few sizes that are cut from larger blocks: a driver allows only
// a few thousand allocations.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "vk/commands.h"

namespace gptoss::model {

class KvPool {
    struct Block;

  public:
    // Goes back to the pool when its last owner does. The device must be done with it by then.
    class Page {
      public:
        ~Page();
        const vk::Buffer& buffer() const;
        uint64_t offset() const;
        uint64_t size() const;
        uint64_t address() const { return buffer().address() + offset(); }

      private:
        friend KvPool;
        KvPool* pool_ = nullptr;
        Block* block_ = nullptr;
        uint32_t index_ = 0;
    };
    using PageRef = std::shared_ptr<const Page>;

    // give_up: lets pages go that are kept for later only; called while memory is short, until it returns false.
    KvPool(const vk::Device& device, const vk::Pipelines& pipelines, std::function<bool()> give_up);
    ~KvPool();

    // what names the page in the error when memory is short. Throws InsufficientMemory. From any thread, as are copies.
    PageRef take(uint64_t bytes, const char* what);

    // Runs what record(commands) records, after all that was submitted before, and waits for it.
    void copy(const std::function<void(vk::Commands&)>& record);

    // What a number of pages takes of an empty pool, bytes.
    static uint64_t footprint(uint64_t page_bytes, uint64_t count);

  private:
    struct Block {
        vk::Buffer buffer;
        uint64_t page_bytes;
        uint32_t n_pages;
        std::vector<uint32_t> free;  // indices; has room for all
    };
    struct Kind {
        std::vector<std::unique_ptr<Block>> blocks;
        uint64_t n_pages = 0;  // of them together
    };

    PageRef try_take(uint64_t bytes, const char* what);
    Block& block_with_room(uint64_t page_bytes, const char* what);
    void give_back(Block& block, uint32_t index) noexcept;

    const vk::Device& device_;
    const std::function<bool()> give_up_;
    std::mutex mutex_;
    std::map<uint64_t, Kind> kinds_;  // by the bytes of a page
    std::mutex copy_mutex_;
    vk::Commands copies_;
};

using Page = KvPool::PageRef;

}  // namespace gptoss::model
