/* SPDX-License-Identifier: GPL-2.0-only */
#include "stepper.hpp"
#include <memory>
#include <ucontext.h>
#include "state.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KX_ASAN 1
#endif
#endif
#ifdef KX_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace kx::hosted {

class Fibers;

namespace {

constexpr std::size_t stack_bytes = 256 << 10;

/* Stacks are used again: there are thousands of runs. */
struct Stack {
	static std::vector<std::unique_ptr<char[]>> &spare()
	{
		static std::vector<std::unique_ptr<char[]>> s;
		return s;
	}
	std::unique_ptr<char[]> bytes;
	Stack()
	{
		if (spare().empty()) {
			bytes = std::make_unique<char[]>(stack_bytes);
			return;
		}
		bytes = std::move(spare().back());
		spare().pop_back();
#ifdef KX_ASAN
		__asan_unpoison_memory_region(bytes.get(), stack_bytes);
#endif
	}
	~Stack() { spare().push_back(std::move(bytes)); }
	char *get() const { return bytes.get(); }
};

struct Fiber : Strand {
	ucontext_t uc;
	Stack stack;
	const std::function<void()> *body = nullptr;
	Fibers *all = nullptr;
	Context saved;
	unsigned index = 0;
	bool finished = false, gives_way = false;
	bool (*ready)(void *) = nullptr; /* what it waits for */
	void *ready_arg = nullptr;
	bool can_run() const { return !finished && (!ready || ready(ready_arg)); }
	void *fake_stack = nullptr;

	void step() override;
	void give_way() override;
	void wait(bool (*ready)(void *), void *arg) override;
	virtual ~Fiber() = default;
};

}

/* One run: the fibers of its strands and the thread that drives them. */
class Fibers {
	Stepper &stepper_;
	std::vector<std::unique_ptr<Fiber>> fibers_;
	ucontext_t main_;
	[[maybe_unused]] void *main_fake_ = nullptr;
	[[maybe_unused]] const void *main_stack_ = nullptr;
	[[maybe_unused]] std::size_t main_bytes_ = 0;
	Fiber *current_ = nullptr;
	std::size_t depth_ = 0;

	static Fibers *starting;

	void switch_to(Fiber *from, Fiber *to)
	{
		if (from)
			from->saved = context;
		current_ = to;
		if (to)
			context = to->saved;
		else
			context = Context{};
#ifdef KX_ASAN
		void **save = from ? (from->finished ? nullptr : &from->fake_stack) : &main_fake_;
		if (to)
			__sanitizer_start_switch_fiber(save, to->stack.get(), stack_bytes);
		else
			__sanitizer_start_switch_fiber(save, main_stack_, main_bytes_);
#endif
		swapcontext(from ? &from->uc : &main_, to ? &to->uc : &main_);
#ifdef KX_ASAN
		__sanitizer_finish_switch_fiber(from ? from->fake_stack : main_fake_, nullptr, nullptr);
#endif
	}

	static void entry()
	{
		Fibers *all = starting;
		Fiber *self = all->current_;
#ifdef KX_ASAN
		const void *stack;
		std::size_t bytes;
		__sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
		if (!all->main_stack_) {
			all->main_stack_ = stack;
			all->main_bytes_ = bytes;
		}
#endif
		(*self->body)();
		if (context.locks || context.rcu_depth)
			fail("a strand ends with a lock or in a read section");
		self->finished = true;
		all->leave(self);
		fail("a finished strand runs on");
	}

	/* Who goes on. The one that ran goes first among the choices if it can. */
	Fiber *choose(Fiber *ran)
	{
		std::vector<Fiber *> can;
		const bool free = !ran || !ran->can_run() || ran->gives_way;
		if (!free)
			can.push_back(ran);
		bool all_finished = true;
		for (auto &f : fibers_) {
			all_finished = all_finished && f->finished;
			if (f.get() != ran && f->can_run())
				can.push_back(f.get());
		}
		if (all_finished)
			return nullptr;
		if (can.empty() && ran->gives_way)
			can.push_back(ran);
		if (can.empty())
			fail("every strand waits");
		auto &path = stepper_.path_;
		if (depth_ == path.size())
			path.push_back({0, unsigned(can.size()), free});
		const unsigned i = path[depth_++].chosen;
		if (i >= can.size())
			fail("a schedule does not repeat: the run depends on something else than the order");
		return can[i];
	}

public:
	Fibers(Stepper &s, const Stepper::Run &run) : stepper_{s}
	{
		for (const auto &body : run.strands) {
			auto f = std::make_unique<Fiber>();
			f->body = &body;
			f->all = this;
			f->index = unsigned(fibers_.size());
			f->saved.strand = f.get();
			getcontext(&f->uc);
			f->uc.uc_stack.ss_sp = f->stack.get();
			f->uc.uc_stack.ss_size = stack_bytes;
			f->uc.uc_link = nullptr;
			makecontext(&f->uc, entry, 0);
			fibers_.push_back(std::move(f));
		}
	}
	void drive()
	{
		starting = this;
		if (Fiber *first = choose(nullptr))
			switch_to(nullptr, first);
	}
	void leave(Fiber *f)
	{
		Fiber *to = choose(f);
		if (to != f)
			switch_to(f, to);
	}
};
Fibers *Fibers::starting;

void Fiber::step() { all->leave(this); }

void Fiber::give_way()
{
	gives_way = true;
	all->leave(this);
	gives_way = false;
}

void Fiber::wait(bool (*until)(void *), void *arg)
{
	ready = until;
	ready_arg = arg;
	all->leave(this);
	ready = nullptr;
}

void Stepper::run(const Run &r)
{
	Fibers{*this, r}.drive();
	if (r.check)
		r.check();
}

/* The last decision that has an alternative within the bound. */
bool Stepper::next()
{
	while (!path_.empty()) {
		Decision &d = path_.back();
		unsigned used = 0;
		for (std::size_t i = 0; i + 1 < path_.size(); ++i)
			used += !path_[i].free && path_[i].chosen;
		if (d.chosen + 1 < d.choices && (d.free || used < preemptions_)) {
			++d.chosen;
			return true;
		}
		path_.pop_back();
	}
	return false;
}

Stepper::Result Stepper::explore(const std::function<Run()> &begin, const std::function<bool()> &failed)
{
	path_.clear();
	unsigned n = 0;
	for (;;) {
		run(begin());
		++n;
		if (failed && failed())
			return {n, false};
		if (n == max_)
			return {n, false};
		if (!next())
			return {n, true};
	}
}

std::string Stepper::schedule() const
{
	std::string s;
	for (const Decision &d : path_)
		s += char('0' + d.chosen);
	return s;
}

void Stepper::replay(const std::string &schedule, const std::function<Run()> &begin)
{
	path_.clear();
	for (char c : schedule)
		path_.push_back({unsigned(c - '0'), 10, false});
	run(begin());
}

}
