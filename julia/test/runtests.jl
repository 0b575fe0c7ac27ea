using AdjointGPU
using AdjointGPU: Block, Entries, Seed, coloring, star
using Test

const WELLS = Dict(1 => [(0.3,), (1.7,)], 2 => [(0.4, 0.45), (1.6, 0.45)], 3 => [(0.4, 0.45, 0.2), (1.6, 0.45, 0.2)])
const SHAPES = [(12,), (31, 15), (14, 10, 6)]
const EXTENT = (2.0, 1.0, 0.5)

# A field without symmetry, the same wherever the test runs.
field(shape, seed) = [exp(sin(seed + 3.7i[1] + 1.3sum(Tuple(i)) + prod(Tuple(i)))) for i in CartesianIndices(shape)]

function model_of(shape, sides=Symbol[]; options...)
    N = length(shape)
    rates = (1.0, -1.0)
    wells = [Well{N}(p, r) for (p, r) in zip(WELLS[N], rates)]
    return Darcy(Grid(shape, EXTENT[1:N]); wells, sides, options...)
end

sides_of(open) = open ? [:x_min, :x_max] : Symbol[]

function parameters_of(model, seed=1)
    K = field(model.grid.shape, seed)
    kinds = AdjointGPU.parameters(model)
    return haskey(kinds, :boundary_pressure) ?
        (; permeability=K, boundary_pressure=field((kinds.boundary_pressure,), 2)) : (; permeability=K)
end

@testset "grid" begin
    grid = Grid((4, 2), (2.0, 1.0); origin=(-1.0, 0.0))
    @test AdjointGPU.cell_containing(grid, (-1.0, 0.0)) == (1, 1)
    @test AdjointGPU.cell_containing(grid, (1.0, 1.0)) == (4, 2)
    @test AdjointGPU.cell_containing(grid, (0.1, 0.4)) == (3, 1)
    @test_throws ArgumentError AdjointGPU.cell_containing(grid, (1.1, 0.4))
    @test_throws ArgumentError Grid((4, 1), (1.0, 1.0))
    @test_throws ArgumentError Grid((4, 4), (1.0, -1.0))
    @test_throws ArgumentError Darcy(grid; wells=[Well{2}((0.0, 0.5), 1.0)])
    @test_throws ArgumentError Darcy(grid; sides=[:z_min])
    @test_throws ArgumentError Simulation(Darcy(grid); backend=:Abacus)
    @test_throws ArgumentError AdjointGPU.build("darci", grid, Dict())
end

@testset "colours tell a row's cells apart" for N in 1:3
    offsets = star(Val(N))
    weights, colors = coloring(offsets)
    @test colors == 2N + 1
    @test allunique(mod(sum(weights .* s), colors) for s in offsets)
end

"J v or J' v at a state, from the stored entries."
function stored(sim, m, state, v, transposed)
    AdjointGPU.set_parameters!(sim, m)
    AdjointGPU.scatter!(sim, sim.u[1], state)
    sim.linearised = false
    AdjointGPU.linearise!(sim)
    lambda, source = sim.multiplier[1], sim.u[2]
    AdjointGPU.scatter!(sim, lambda, v)
    fill!(source, 0)
    AdjointGPU.residual!(sim.kernels, sim.block.own, sim.work[1], lambda, (; entries=sim.jacobian, source),
                         AdjointGPU.Linear(AdjointGPU.stencil(sim.model), transposed))
    return AdjointGPU.gather(sim, sim.work[1])
end

@testset "derivatives, $(length(shape))-D, open=$open, $face_mean" for shape in SHAPES, open in (false, true),
                                                         face_mean in (:arithmetic, :harmonic)
    sim = Simulation(model_of(shape, sides_of(open); face_mean))
    m = parameters_of(sim.model)
    u, v, w = field(shape, 3), field(shape, 4), field(shape, 5)
    R(m, u) = AdjointGPU.residual(sim, m, u)
    ubar, mbar = AdjointGPU.vjp(sim, m, u, w)
    # R is affine in u: differences are exact.
    @test sum(w .* (R(m, u .+ v) .- R(m, u))) ≈ sum(ubar .* v) rtol = 1e-11
    for name in keys(m)
        direction = field(size(m[name]), 6)
        shifted(h) = merge(m, NamedTuple{(name,)}((m[name] .+ h .* direction,)))
        difference(h) = sum(w .* (R(shifted(h), u) .- R(shifted(-h), u))) / 2h
        extrapolated = (4difference(5e-4) - difference(1e-3)) / 3
        @test extrapolated ≈ sum(mbar[name] .* direction) rtol = 1e-8
    end
    # The stored stencil is Enzyme's reverse sweep.
    @test stored(sim, m, u, w, true) ≈ ubar rtol = 1e-13
    @test stored(sim, m, u, v, false) ≈ R(m, u .+ v) .- R(m, u) rtol = 1e-11
end

# d/dh f at 0, to fourth order.
slope(f, h=1e-3) = (4 * (f(h / 2) - f(-h / 2)) / h - (f(h) - f(-h)) / 2h) / 3

@testset "nonlinear diffusion, $(length(shape))-D" for shape in SHAPES
    N = length(shape)
    grid = Grid(shape, EXTENT[1:N])
    diffusion = Diffusion(grid; fixed=[:x_min, :x_max], inflow=N > 1 ? [:y_min] : Symbol[])
    u, v, w = field(shape, 3), field(shape, 4), field(shape, 5)
    for model in (diffusion, Step(diffusion, 0.01, :previous_height))
        sim = Simulation(model)
        m = map(kind -> 0.8 .+ 0.2 .* field(kind === :cells ? shape : (kind,), 2), AdjointGPU.parameters(model))
        R(m, u) = AdjointGPU.residual(sim, m, u)
        ubar, mbar = AdjointGPU.vjp(sim, m, u, w)
        @test slope(h -> sum(w .* R(m, u .+ h .* v))) ≈ sum(ubar .* v) rtol = 1e-8
        for name in keys(m)
            direction = field(size(m[name]), 6)
            shifted(h) = merge(m, NamedTuple{(name,)}((m[name] .+ h .* direction,)))
            @test slope(h -> sum(w .* R(shifted(h), u))) ≈ sum(mbar[name] .* direction) rtol = 1e-7
        end
        state, report = solve!(sim, m; initial=ones(shape), tolerance=1e-11)
        @test report.status === :converged
        @test maximum(abs, R(m, state)) <= 1e-10 * maximum(abs, R(m, zero(state)))
        gradient, _, report = adjoint!(sim, w; state, parameters=m, tolerance=1e-12)
        @test report.status === :converged
        direction = field(shape, 6)
        J(h) = sum(w .* solve!(sim, merge(m, (; diffusivity=m.diffusivity .+ h .* direction)); initial=state, tolerance=1e-13)[1])
        @test slope(J, 2e-3) ≈ sum(gradient.diffusivity .* direction) rtol = 1e-6
    end
    @test_throws ArgumentError Diffusion(grid; fixed=Symbol[])
    @test_throws ArgumentError Diffusion(grid; fixed=[:top])
    @test_throws ArgumentError Diffusion(grid; fixed=[:x_min], smallest=0.0)
end

@testset "power-law channel, n = $n" for (n, no_slip) in ((1 / 3, [:x_min, :y_min]), (3.0, [:x_max]))
    shape = (11, 8)
    grid = Grid(shape, (2.0, 1.0))
    sim = Simulation(ChannelFlow(grid; no_slip, smallest=0.1, least_fluidity=0.05))
    m = (; prefactor=field(shape, 1), driving_force=field(shape, 2), exponent=n .* (0.8 .+ 0.1 .* field(shape, 3)))
    u, v, w = field(shape, 3), field(shape, 4), field(shape, 5)
    R(m, u) = AdjointGPU.residual(sim, m, u)
    ubar, mbar = AdjointGPU.vjp(sim, m, u, w)
    @test slope(h -> sum(w .* R(m, u .+ h .* v)), 1e-4) ≈ sum(ubar .* v) rtol = 1e-7
    # dR/du is symmetric.
    @test sum(v .* ubar) ≈ sum(w .* AdjointGPU.vjp(sim, m, u, v)[1]) rtol = 1e-12
    for name in keys(m)
        direction = field(shape, 6)
        shifted(h) = merge(m, NamedTuple{(name,)}((m[name] .+ h .* direction,)))
        @test slope(h -> sum(w .* R(shifted(h), u))) ≈ sum(mbar[name] .* direction) rtol = 1e-7
    end
    state, report = solve!(sim, m; initial=ones(shape), tolerance=1e-11)
    @test report.status === :converged
    @test maximum(abs, R(m, state)) <= 1e-10 * maximum(abs, R(m, zero(state)))
    gradient, _, report = adjoint!(sim, w; state, parameters=m, tolerance=1e-12)
    @test report.status === :converged
    direction = field(shape, 6)
    J(h) = sum(w .* solve!(sim, merge(m, (; prefactor=m.prefactor .+ h .* direction)); initial=state, tolerance=1e-13)[1])
    @test slope(J, 2e-3) ≈ sum(gradient.prefactor .* direction) rtol = 1e-6
    @test_throws ArgumentError ChannelFlow(grid; no_slip=Symbol[], smallest=0.1)
    @test_throws ArgumentError ChannelFlow(grid; no_slip=[:bed], smallest=0.1)
    @test_throws ArgumentError ChannelFlow(grid; no_slip, smallest=0.0)
    @test_throws ArgumentError ChannelFlow(grid; no_slip, smallest=0.1, least_fluidity=-1.0)
    @test_throws ArgumentError ChannelFlow(Grid((4,), (1.0,)); no_slip=[:x_min], smallest=0.1)
end

@testset "shallow ice, $(length(shape))-D, sea level $level" for shape in SHAPES[1:2], level in (nothing, 0.0)
    ice = Ice(Grid(shape, 1e5 .* EXTENT[1:length(shape)]); sea_level=level)
    u, v, w = 100 .* field(shape, 3), 10 .* field(shape, 4), field(shape, 5)
    scale = (; bed=200, rate_factor=1e-5, sliding=1, balance_lapse=0.01, equilibrium_line=100,
             balance_cap=0.6, balance=0.1, reference_thickness=1, previous_thickness=100)
    for model in (ice, Step(ice, 0.5, :previous_thickness))
        sim = Simulation(model)
        names = keys(AdjointGPU.parameters(model))
        m = NamedTuple{names}(map(name -> scale[name] .* field(shape, 7 + length(string(name))), names))
        m = merge(m, (; bed=m.bed .- 160, reference_thickness=max.(m.reference_thickness .- 1, 0)))
        R(m, u) = AdjointGPU.residual(sim, m, u)
        ubar, mbar = AdjointGPU.vjp(sim, m, u, w)
        atol = 1e-10 * sum(abs, w .* R(m, u))   # of differences
        # The stored stencil is Enzyme's reverse sweep, where cells are held or below the bound, too.
        for state in (u, u .* (w .> 1.3), u .* (w .- 1.3))
            @test stored(sim, m, state, w, true) ≈ AdjointGPU.vjp(sim, m, state, w)[1] rtol = 1e-12
            @test sum(w .* stored(sim, m, state, v, false)) ≈ sum(v .* stored(sim, m, state, w, true)) rtol = 1e-12
        end
        @test slope(h -> sum(w .* R(m, u .+ h .* v)), 1e-4) ≈ sum(ubar .* v) rtol = 1e-8 atol = atol
        for name in keys(m)
            name === :reference_thickness && continue
            direction = m[name]
            shifted(h) = merge(m, NamedTuple{(name,)}((m[name] .+ h .* direction,)))
            @test slope(h -> sum(w .* R(shifted(h), u)), 1e-4) ≈ sum(mbar[name] .* direction) rtol = 1e-5 atol = atol
        end
    end
    @test_throws ArgumentError Ice(ice.grid; exponent=0.5)
    @test_throws ArgumentError Ice(Grid((4, 4, 4), (1.0, 1.0, 1.0)))
end

@testset "a bound on the state" begin
    # Snow in the middle of a plain, melt around it.
    grid = Grid((41,), (2e5,); origin=(-1e5,))
    x = [(i - 0.5) * 2e5 / 41 - 1e5 for i in 1:41]
    sim = Simulation(Ice(grid))
    full(value) = fill(float(value), 41)
    m = (; bed=full(0), rate_factor=full(3e-5), sliding=full(0), balance_lapse=full(0), equilibrium_line=full(0),
         balance_cap=full(1), balance=(@. 0.5 - x^2 / 4e9), reference_thickness=full(0))
    H, report = solve!(sim, m; initial=(@. 500.0 * (m.balance > 0)), tolerance=1e-11)
    @test report.status === :converged
    ice = H .> 0
    @test 10 < count(ice) < 41 && all(H[.!ice] .== 0) && H ≈ reverse(H)
    # Continuation and pseudo-transient iteration come to the same.
    AdjointGPU.start!(sim, sim.u[1], @. 500.0 * (m.balance > 0))
    operator = AdjointGPU.Operator(AdjointGPU.equations(sim.model), sim.c, false, false)
    other = AdjointGPU.iterate!(sim, operator, sim.u; tolerance=1e-11, max_iterations=10_000, low=nothing, check=Returns(nothing))
    @test (report.method, other.method) == ("continuation", "pseudo-transient")
    @test other.status === :converged
    @test AdjointGPU.gather(sim, sim.u[1]) ≈ H rtol = 1e-9
    w = field((41,), 5)
    gradient, _, _ = adjoint!(sim, w; state=H, parameters=m, tolerance=1e-12)
    direction = field((41,), 6)
    J(h) = sum(w .* solve!(sim, merge(m, (; balance=m.balance .+ h .* direction)); initial=H, tolerance=1e-13)[1])
    @test slope(J, 1e-5) ≈ sum(gradient.balance .* direction) rtol = 1e-5
    @test all(gradient.balance[.!ice] .== 0)
end

@testset "continuation" begin
    # Snow on high ground, melt on low, on a bed with steps of more than the ice's thickness.
    grid = Grid((30, 24), (3e5, 2.4e5); origin=(-1.5e5, -1.2e5))
    shape, sim = grid.shape, Simulation(Ice(grid))
    x = [hypot(((i[k] - 0.5) * 1e4 + grid.origin[k] for k in 1:2)...) for i in CartesianIndices(shape)]
    full(value) = fill(float(value), shape)
    m = (; bed=300 .* field(shape, 3), rate_factor=2e-5 .* field(shape, 4), sliding=full(0), balance_lapse=full(0.004),
         equilibrium_line=x ./ 100, balance_cap=full(0.5), balance=full(0), reference_thickness=full(0))
    start = (@. 1500.0 * (x < 8e4))
    H, report = solve!(sim, m; initial=start, tolerance=1e-9)
    @test (report.method, report.status) == ("continuation", :converged)
    r = AdjointGPU.residual(sim, m, H)
    @test maximum(abs, r) <= 1e-9 * maximum(abs, AdjointGPU.residual(sim, m, zero(H)))
    @test all(>=(0), H) && 0.1 < sum(>(0), H) / length(H) < 0.9
    # From where it is already, one step.
    H2, report = solve!(sim, m; initial=H, tolerance=1e-8)
    @test report.iterations < 100
    @test H2 ≈ H rtol = 1e-9
    # Interrupted within a step, it leaves nothing of that behind.
    @test_throws InterruptException solve!(sim, m; initial=start, check=(n, _) -> n > 60 && throw(InterruptException()))
    gradient(sim) = adjoint!(sim, field(shape, 5); state=H, parameters=m, tolerance=1e-12)[1].balance
    @test gradient(sim) ≈ gradient(Simulation(sim.model)) rtol = 1e-9
    # How it can end.
    @test solve!(sim, m; initial=start, max_iterations=100)[2].status === :max_iterations
    @test solve!(sim, m; initial=H, tolerance=1e-17)[2].status === :round_off
    melting = merge(m, (; balance=full(-10)))
    @test all(solve!(sim, melting; initial=start)[1] .== 0)
    _, report = solve!(sim, melting)
    @test report.status === :converged && report.iterations == 0 && 0 < report.low < report.high
    @test solve!(sim, merge(m, (; balance=full(NaN))); initial=start)[2].status === :diverged
    checks = Int[]
    solve!(sim, m; initial=start, check=(n, r) -> push!(checks, n))
    @test issorted(checks) && length(checks) > 20
end

@testset "waves, $(length(shape))-D, $(typeof(medium)), sponge=$sponge" for (shape, medium, sponge, cells) in
        (((12,), Water(1.2), 0, nothing), ((9, 7), Sound(1.3), 2, nothing), ((9, 7), Water(1.2), 2, [3, 7, 7]),
         ((6, 5, 4), Sound(1.3), 0, nothing))
    grid = Grid(shape, 0.1 .* shape)
    absorbing = sponge > 0 ? [:x_min, :x_max] : Symbol[]
    source = Forcing(cells, 0.7)
    wave(checkpoints) = Wave(grid, medium; step=0.01, steps=12, every=4, checkpoints, absorbing, sponge, source)
    sim = Simulation(wave(5))
    m = (; map(_ -> field(shape, 1), AdjointGPU.parameters(sim.model))...,
         source=field(AdjointGPU.source_size(grid, source, sim.model.times), 2))
    u, report = solve!(sim, m)
    @test report.status === :converged
    @test report.iterations == 12
    @test size(u) == (shape..., 4)
    w = field(size(u), 5)
    gradient, multiplier, _ = adjoint!(sim, w; parameters=m)
    @test multiplier == -w
    for name in keys(m)
        direction = field(size(m[name]), 6)
        shifted(h) = merge(m, NamedTuple{(name,)}((m[name] .+ h .* direction,)))
        J(h) = sum(w .* solve!(sim, shifted(h))[1])
        @test slope(J) ≈ sum(gradient[name] .* direction) rtol = 1e-8
    end
    # However many states are kept, and whether they are still there.
    for checkpoints in (1, 3, 12)
        again, = adjoint!(Simulation(wave(checkpoints)), w; parameters=m)
        @test all(again[name] == gradient[name] for name in keys(m))
    end
    @test_throws ArgumentError Wave(grid, medium; step=0.0, steps=4)
    @test_throws ArgumentError Wave(grid, medium; step=0.1, steps=5, every=2)
    @test_throws ArgumentError Wave(grid, medium; step=0.1, steps=4, absorbing=[:top])
    sim = Simulation(Wave(grid, medium; step=0.01, steps=4))
    @test_throws ArgumentError solve!(sim, (;))
    @test_throws DimensionMismatch solve!(sim, map(_ -> ones(2, 2), AdjointGPU.parameters(sim.model)))
end

@testset "a wave's transposed stages are Enzyme's reverse" begin
    model = Wave(Grid((9, 7), (0.9, 0.7)), Sound(1.3); step=0.01, steps=1, absorbing=[:x_min, :y_max], sponge=2)
    sim = Simulation(model)
    m = map(_ -> field((9, 7), 1), AdjointGPU.parameters(model))
    solve!(sim, m)
    (; kernels, block, c) = sim
    inside(seed) = (f = zero(c.load); f[block.own...] .= field((9, 7), seed); f)
    before = (; p=inside(2), q=(inside(3), inside(4)))
    bar = (; p=inside(5), q=(inside(6), inside(7)))
    copied = AdjointGPU.copy_state
    middle = (; p=copy(before.p), q=copied(before.q))
    AdjointGPU.assemble!(kernels, block.own, middle, c, AdjointGPU.Kick())
    (kick, drift) = first.(AdjointGPU.stages(model, block))
    xbar, cbar = copied(bar), AdjointGPU.zeroed(c)
    AdjointGPU.vjp_assemble!(kernels, block.own, copied(middle), xbar, c, cbar, drift)
    AdjointGPU.vjp_assemble!(kernels, block.own, copied(before), xbar, c, cbar, kick)
    # Ours takes q's before `hold`, and leaves them so.
    ours = (; x=(; p=copy(bar.p), q=AdjointGPU.zeroed(bar.q)), c=AdjointGPU.zeroed(c))
    for d in 1:2
        inner = AdjointGPU.inner_faces(block, d)
        ours.x.q[d][inner...] .= bar.q[d][inner...] ./ c.hold[d][inner...]
    end
    seen = AdjointGPU.seen(model, before, middle, c)
    for (stage, ranges) in AdjointGPU.transposed(model, block)
        AdjointGPU.assemble!(kernels, ranges, ours, seen, stage)
    end
    cells(f) = f[block.own...]
    faces(f, d) = f[AdjointGPU.inner_faces(block, d)...]
    @test cells(ours.x.p) ≈ cells(xbar.p) rtol = 1e-13
    for name in (:keep, :pull, :load)
        @test cells(ours.c[name]) ≈ cells(cbar[name]) rtol = 1e-13
    end
    for d in 1:2
        @test faces(ours.x.q[d] .* c.hold[d], d) ≈ faces(xbar.q[d], d) rtol = 1e-13
        @test faces(ours.c.push[d], d) ≈ faces(cbar.push[d], d) rtol = 1e-13
        @test faces(ours.c.hold[d], d) ≈ faces(cbar.hold[d], d) rtol = 1e-13
    end
end

@testset "solves, $(length(shape))-D, open=$open" for shape in SHAPES, open in (false, true)
    sim = Simulation(model_of(shape, sides_of(open)))
    m = parameters_of(sim.model)
    state, report = solve!(sim, m; tolerance=1e-12)
    @test report.status === :converged
    r = AdjointGPU.residual(sim, m, state)
    @test maximum(abs, r) <= 1e-11 * maximum(abs, AdjointGPU.residual(sim, m, zero(state)))
    open || @test abs(sum(state)) < 1e-10
    # The gradient of J = sum(w u) in one direction, by differences of solves.
    w = field(shape, 5)
    gradient, multiplier, report = adjoint!(sim, w; state, parameters=m, tolerance=1e-12)
    @test report.status === :converged
    direction = field(shape, 6)
    J(h) = sum(w .* solve!(sim, merge(m, (; permeability=m.permeability .+ h .* direction)); tolerance=1e-13)[1])
    extrapolated = (4 * (J(1e-3) - J(-1e-3)) / 2e-3 - (J(2e-3) - J(-2e-3)) / 4e-3) / 3
    @test extrapolated ≈ sum(gradient.permeability .* direction) rtol = 1e-6
end

@testset "a model from a user's file" begin
    path = joinpath(@__DIR__, "..", "..", "examples", "reaction_diffusion.jl")
    AdjointGPU.load(path, read(path, String))
    first_type = AdjointGPU.CATALOGUE["fisher"]
    AdjointGPU.load(path, read(path, String))
    @test AdjointGPU.CATALOGUE["fisher"] === first_type
    # What was loaded is newer than this test.
    Base.invokelatest() do
        shape = (6, 5)
        sim = Simulation(AdjointGPU.build("fisher", Grid(shape, (2.0, 1.0)), Dict()))
        m = (; diffusivity=field(shape, 1), growth=field(shape, 2), arrivals=field(shape, 3))
        u = field(shape, 4)
        # Nothing goes through the sides.
        @test sum(AdjointGPU.residual(sim, m, u)) ≈ sum(u .* (m.growth .- u) .+ m.arrivals)
    end
    fails(text) = try
        AdjointGPU.load("broken.jl", text)
    catch error
        sprint(showerror, error)
    end
    @test startswith(fails("x = 1\ny = (x"), "broken.jl:2: syntax error: ")
    @test startswith(fails("x = 1\ny = z"), "broken.jl:2: UndefVarError: ")
    @test_throws ArgumentError AdjointGPU.register("darcy", Darcy)
end

@testset "how a solve can end" begin
    sim = Simulation(model_of((31, 15)))
    m = parameters_of(sim.model)
    @test solve!(sim, m; max_iterations=17)[2].status === :max_iterations
    @test solve!(sim, m; tolerance=1e-17)[2].status === :round_off
    @test solve!(sim, (; permeability=fill(NaN, 31, 15)))[2].status === :diverged
    @test solve!(sim, m)[2].status === :converged
    @test_throws DimensionMismatch solve!(sim, (; permeability=ones(3, 3)))
    @test_throws ArgumentError solve!(sim, (;))
    checks = Int[]
    solve!(sim, m; check=(n, r) -> push!(checks, n))
    @test issorted(checks) && !isempty(checks)
    single = Simulation(sim.model; T=Float32)
    a, b = solve!(sim, m)[1], solve!(single, m; tolerance=1e-5)[1]
    @test eltype(b) === Float32
    @test a ≈ b rtol = 1e-3
end

@testset "nothing is allocated in the loop" begin
    sim = Simulation(model_of((31, 15)))
    solve!(sim, parameters_of(sim.model))
    operator = AdjointGPU.Operator(AdjointGPU.equation(sim.model), sim.c, true, false)
    step(pairs) = @allocated AdjointGPU.advance!(sim, operator, sim.u[2], sim.u[1], pairs, 0.1, 0.9, 1.0)
    step(1)
    # Julia's threaded loops allocate their tasks; fields are 4 kB.
    per_step = (step(101) - step(1)) / 200
    @test per_step < 700 * Threads.nthreads()
end
