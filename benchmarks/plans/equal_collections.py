"""Collections of models with equal classes, on the stored features of f8f04b89: `python -m benchmarks.plans.equal_collections RESULTS`."""
import sys, numpy as np, torch
from collections import defaultdict
from pathlib import Path
import benchmarks.plans.unequal_classes as u
from benchmarks.run_store import RunStore
from core.clip.models.backbone import load_backbone
from core.settings import get_settings
scale=load_backbone("starter",cache=get_settings().cache,image_size=160,device="cpu").logit_scale
store=RunStore(Path(sys.argv[1]),"features-starter"); found=defaultdict(list); used=defaultdict(int)
for key in store.names():
    st=store.get(key); n=lambda x: torch.nn.functional.normalize(torch.from_numpy(st.array(x).astype(np.float32)),dim=-1)
    tr=st.array("trained").tolist(); place={c:i for i,c in enumerate(tr)}
    truth=st.array("truth"); keep=np.isin(truth,tr); y=torch.tensor([place[t] for t in truth[keep]]); X=n("images@0.5")[torch.from_numpy(keep)]
    tx=n("texts@0.5")[tr]; S=(n("shots@0.5"),torch.from_numpy(st.array("shot_labels"))); k=len(tr); cl=list(range(k))
    piles={"all":[np.arange(len(y))]}
    for kind in ("20 images","100 images","unequal"):
        piles[kind]=[]
        for d in range(5):
            g=np.random.default_rng(d)
            if kind=="unequal":
                p=g.dirichlet(np.ones(k)); w=p[y.numpy()]; rows=g.choice(len(y),size=min(100,len(y)//2),replace=False,p=w/w.sum())
            else: rows=g.permutation(len(y))[:int(kind.split()[0])]
            piles[kind].append(rows)
    for kind,draws in piles.items():
        for rows in draws:
            x,t=X[rows],y[rows]; r=[]
            for arm in ("served","neither","shots"):
                rule,_=u.one_rule(S,S,tx,cl,scale,arm)
                c=rule.scores(x).argmax(1).bincount(minlength=k)
                if c.min()>=max(1,.5*int(c.sum())/k): rule=u.self_trained(S,tx,cl,x,scale,arm); used[kind,arm]+=1
                r.append((rule.scores(x).argmax(1)==t).float().mean().item())
            found[kind,key.split("/")[0]].append(r)
for kind in piles:
    m=np.array([np.mean(v,0) for (kk,s),v in found.items() if kk==kind]); d=m-m[:,:1]
    print(f"{kind:12} served {m[:,0].mean():.3f}  neither {d[:,1].mean():+.3f} {d[:,1].min():+.3f}  shots {d[:,2].mean():+.3f} worst {d[:,2].min():+.3f} best {d[:,2].max():+.3f}  self-trained", {a:v for (kk,a),v in used.items() if kk==kind})
